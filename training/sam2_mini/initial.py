"""Initial weights: Hiera's, sam-mini's decoder in SAM 2's, and those of the memory."""

import math

import torch
from torch import Tensor, nn
from transformers import Sam2VideoModel, SamModel

POSITION_SHARE = 0.3  # of the position codes, beside patches of about unit variance
USUAL_IOU = 0.7  # around which sam-mini's IoU head is fitted to a sigmoid


@torch.no_grad()
def initialise_encoder_(encoder: nn.Module) -> None:
    """Give a vision encoder of SAM 2 weights to learn with.

    With transformers' weights of 0.02 and tables of zeros a token knows neither its place on the
    canvas nor its place in its window, and the largest of four tokens is of no known place. The
    background table starts as waves along x and y, from twice the canvas's length down to three
    of its cells, the table that windows repeat as the waves that fit into it. What a block adds
    starts small.
    """
    blocks = encoder.backbone.blocks
    initialise_products_(encoder)
    for block in blocks:
        block.attn.proj.weight.mul_(len(blocks) ** -0.5)
        block.mlp.proj_out.weight.mul_(len(blocks) ** -0.5)
    for table, cycles in (
        (encoder.backbone.pos_embed, torch.logspace(-1, 2, 8, base=2)),
        (encoder.backbone.pos_embed_window, torch.arange(1, 5).repeat(2)),
    ):
        table.copy_(POSITION_SHARE * _waves(table.shape[-1], cycles, table.shape[1]))


def initialise_products_(module: nn.Module) -> None:
    """Weights of unit gain, biases of zero."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


@torch.no_grad()
def take_decoder_(model: Sam2VideoModel, sam: SamModel) -> None:
    """Put sam-mini's prompt encoder and decoder into SAM 2's, which then finds sam-mini's masks.

    Almost: a box has a third token in SAM 2, one that sam-mini knows from clicks alone. The token
    of the object's score starts at zero, and so does what the finer levels add. The IoU goes
    through a sigmoid, whose tangent at a usual IoU continues sam-mini's head.
    """
    found = {_renamed(name): tensor for name, tensor in sam.state_dict().items()}
    points = [f"prompt_encoder.point_embed.{i}.weight" for i in range(4)]
    found["prompt_encoder.point_embed.weight"] = torch.cat([found.pop(name) for name in points])
    head = "mask_decoder.iou_prediction_head.proj_out."
    slope = USUAL_IOU * (1 - USUAL_IOU)
    middle = math.log(USUAL_IOU / (1 - USUAL_IOU))
    found[head + "weight"] = found[head + "weight"] / slope
    found[head + "bias"] = (found[head + "bias"] - USUAL_IOU) / slope + middle
    nn.init.zeros_(model.mask_decoder.obj_score_token.weight)
    initialise_products_(model.mask_decoder.pred_obj_score_head)
    for convolution in (model.mask_decoder.conv_s0, model.mask_decoder.conv_s1):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    taken = {name: t for name, t in found.items() if not name.startswith("vision_encoder.")}
    model.load_state_dict(model.state_dict() | taken)


@torch.no_grad()
def initialise_memory_(model: Sam2VideoModel) -> None:
    """Weights of unit gain for the memory; what its attention adds to the embedding starts small.

    A mask prompt starts as logits of the decoder's size, 10 inside and minus 10 outside.
    """
    attention, encoder = model.memory_attention, model.memory_encoder
    for part in (
        attention,
        encoder.mask_downsampler,
        encoder.feature_projection,
        encoder.projection,
        model.object_pointer_proj,
        model.temporal_positional_encoding_projection_layer,
    ):
        initialise_products_(part)
    for layer in attention.layers:
        for product in (layer.self_attn.o_proj, layer.cross_attn_image.o_proj, layer.linear2):
            product.weight.mul_(0.3)
    for block in encoder.memory_fuser.layers:
        initialise_products_(block.pointwise_conv1)
        initialise_products_(block.pointwise_conv2)
        nn.init.kaiming_uniform_(block.depthwise_conv.weight)
        block.scale.fill_(0.3)
    for vector in (
        model.memory_temporal_positional_encoding,
        model.no_object_pointer,
        model.occlusion_spatial_embedding_parameter,
    ):
        nn.init.normal_(vector, std=0.1)
    model.mask_downsample.weight.fill_(20 / model.mask_downsample.weight.numel())
    model.mask_downsample.bias.fill_(-10)


def _renamed(name: str) -> str:
    """The name in SAM 2 of a tensor of SAM's decoder."""
    if name.startswith("mask_decoder.transformer."):
        for old, new in (
            (".out_proj.", ".o_proj."),
            (".lin1.", ".proj_in."),
            (".lin2.", ".proj_out."),
        ):
            name = name.replace(old, new)
    return name


def _waves(size: int, cycles: Tensor, channels: int) -> Tensor:
    """Sines and cosines along x and y, channels x size x size; the first ones if there are more."""
    places = (torch.arange(size) + 0.5) / size
    angles = 2 * math.pi * cycles[:, None] * places  # waves x size
    lines = torch.stack([angles.sin(), angles.cos()], 1)
    across = lines[..., None, :].expand(-1, -1, size, -1)
    down = lines[..., None].expand(-1, -1, -1, size)
    return torch.stack([across, down], 1).flatten(0, 2)[:channels]

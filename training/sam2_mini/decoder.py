"""SAM 2's prompts and masks on a part of the canvas: all four masks, in any number format.

transformers returns one mask or three, and adds the position code of the whole canvas.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

CELL = 16  # pixels


class Levels(NamedTuple):
    """What an encoded window gives to the decoder: batch x C x h x w, and twice, four times as fine
    what its mask head adds, of C/4 and C/8 channels.
    """

    coarse: Tensor
    middle: Tensor
    fine: Tensor


class Decoded(NamedTuple):
    """Four masks of every prompt, and whether there is an object.

    Attributes:
        masks: logits, float32, batch x prompts x 4 x 4h x 4w.
        ious: predicted, float32, batch x prompts x 4.
        tokens: of the masks, batch x prompts x 4 x C.
        scores: logits of the object being there, float32, batch x prompts.
    """

    masks: Tensor
    ious: Tensor
    tokens: Tensor
    scores: Tensor


def fine_levels(decoder: nn.Module, levels: tuple[Tensor, Tensor, Tensor]) -> Levels:
    """Reduce the neck's finer levels to the channels that the mask head adds."""
    coarse, middle, fine = levels
    return Levels(coarse, decoder.conv_s1(middle), decoder.conv_s0(fine))


def embed_prompts(
    model: nn.Module,
    offset: tuple[int, int],
    boxes: Tensor | None = None,
    points: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Sparse embedding, batch x prompts x tokens x C.

    Args:
        offset: row and column of the window on the canvas, in pixels.
        boxes: batch x prompts x 4 in pixels of the window.
        points: batch x prompts x points x 2, x and y.
        labels: batch x prompts x points; all on the object if not given.
    """
    shift = torch.tensor([offset[1], offset[0]])
    if boxes is not None:
        boxes = boxes + shift.repeat(2)
    if points is not None:
        points = points + shift
        if labels is None:
            labels = torch.ones(points.shape[:3], dtype=torch.int64)
    return model.prompt_encoder(points, labels, boxes, None)[0]


def no_mask(model: nn.Module) -> Tensor:
    """The dense embedding of a prompt without a mask, 1 x C x 1 x 1."""
    return model.prompt_encoder.no_mask_embed.weight[..., None, None]


def decode(
    model: nn.Module, levels: Levels, offset: tuple[int, int], sparse: Tensor, dense: Tensor
) -> Decoded:
    """Predict all masks of all prompts.

    Args:
        levels: with the memory, or what stands for none, in the coarse one.
        offset: row and column of the windows on the canvas, in pixels.
        sparse: of `embed_prompts`.
        dense: broadcast to batch x C x h x w.
    """
    decoder = model.mask_decoder
    batch, prompts = sparse.shape[:2]
    height, width = levels.coarse.shape[2:]
    row, column = (start // CELL for start in offset)
    positions = model.get_image_wide_positional_embeddings()
    positions = positions[:, :, row : row + height, column : column + width]
    own = [decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens]
    own = torch.cat([token.weight for token in own]).expand(batch, prompts, -1, -1)
    tokens, keys = decoder.transformer(
        point_embeddings=torch.cat([own, sparse.to(own.dtype)], 2),
        image_embeddings=(levels.coarse + dense).repeat_interleave(prompts, 0),
        image_positional_embeddings=positions.to(own.dtype).expand(batch * prompts, -1, -1, -1),
        attention_similarity=None,
    )
    mask_tokens = tokens[:, :, 2 : 2 + decoder.num_mask_tokens]
    networks = decoder.output_hypernetworks_mlps
    hyper = torch.stack([net(mask_tokens[:, :, i]) for i, net in enumerate(networks)], 2)
    middle, fine = (level.repeat_interleave(prompts, 0) for level in levels[1:])
    pixels = _spread(decoder.upscale_conv1, keys.flatten(0, 1).unflatten(1, (height, width)))
    pixels = pixels + middle.permute(0, 2, 3, 1)
    norm = decoder.upscale_layer_norm
    pixels = functional.layer_norm(pixels, pixels.shape[-1:], norm.weight, norm.bias, norm.eps)
    pixels = _spread(decoder.upscale_conv2, functional.gelu(pixels)) + fine.permute(0, 2, 3, 1)
    pixels = functional.gelu(pixels).flatten(1, 2)  # BP x (4h 4w) x C/8
    masks = hyper.flatten(0, 1) @ pixels.transpose(1, 2)
    return Decoded(
        masks.float().view(batch, prompts, -1, 4 * height, 4 * width),
        decoder.iou_prediction_head(tokens[:, :, 1]).float(),
        mask_tokens,
        decoder.pred_obj_score_head(tokens[:, :, 0])[..., 0].float(),
    )


def _spread(convolution: nn.ConvTranspose2d, pixels: Tensor) -> Tensor:
    """A transposed convolution of kernel and stride 2 as a product.

    From B x h x w x C to B x 2h x 2w x C'.
    """
    weight = convolution.weight.permute(2, 3, 1, 0)  # 2 x 2 x C' x C
    spread = functional.linear(pixels, weight.flatten(0, 2)).unflatten(-1, (2, 2, -1))
    spread = spread.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
    return spread + convolution.bias

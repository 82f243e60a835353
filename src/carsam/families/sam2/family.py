"""SAM 2 for images as `transformers.Sam2Model`."""

from collections.abc import Callable, Iterator
from math import lcm
from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Site, Stage, State
from carsam.families.sam.decoding import (
    image_of_tokens,
    logits_of,
    mask_prompt_stage,
    masks_and_ious,
    start_tokens,
)
from carsam.families.sam.sites import decoder_sites, prompt_sites
from carsam.families.sam.stages import image_offset, two_way_stages
from carsam.families.sam2.modules import Sam2MaskDecoder
from carsam.families.sam2.sites import FINE_LEVELS, NAMES, encoder_sites, score_sites
from carsam.families.sam2.stages import encoder_stages
from carsam.formats.model_config import MOST_FINE_TOKENS
from carsam.images.preprocess import Framing

Run = Callable[[Any, State], State]
Multiply = Callable[[Tensor, Tensor], Tensor]

OUTPUTS = ("masks", "ious", "scores")


class Sam2Family:
    """SAM 2's Hiera encoder of several levels, prompt encoder and two-way decoder.

    The embedding is the level that the decoder attends to, then the finer ones that its mask head
    adds, from coarse to fine. What stands for the missing memory is added when it is decoded, as
    a memory of other frames can stand in its place.
    """

    name = "sam2"
    architecture = "Sam2Model"
    exact_kinds: tuple[str, ...] = ("encoder.patch_embedding", "prompt_encoder")
    mask_token = 2

    def framing(self, config: Any) -> Framing:
        """Return how the input of a model of this configuration is filled."""
        return Framing(config.prompt_encoder_config.image_size, stretched=True)

    def sides(self, config: Any) -> range:
        """Return the sides of inputs that such a model can be resized for: a window or more.

        Three poolings halve the tokens, and windows of the first stage repeat a table of positions;
        neither may leave a remainder.
        """
        backbone = config.vision_config.backbone_config
        stride, windows = backbone.patch_stride[0], backbone.window_size_per_stage
        step = stride * lcm(2**3, windows[0])
        least = max(window * stride * 2**stage for stage, window in enumerate(windows))
        return range(-(-least // step) * step, MOST_FINE_TOKENS * stride + 1, step)

    def set_side_(self, config: Any, side: int) -> None:
        """Make a configuration that of the same model for another size."""
        vision = config.vision_config
        stride = vision.backbone_config.patch_stride[0]
        vision.backbone_config.image_size = [side, side]
        levels = [side // (stride * 2**stage) for stage in range(len(FINE_LEVELS) + 1)]
        vision.backbone_feature_sizes = [[level, level] for level in levels]
        config.prompt_encoder_config.image_size = side

    def encoder_sites(self, model: Any) -> Iterator[Site]:
        """Yield the sites of the image encoder and of what makes its levels."""
        return encoder_sites(model)

    def encoder_stages(self, model: Any) -> Iterator[Stage]:
        """Yield its stages; the state's entries are `hidden`, and at the end `s0` and `s1` too."""
        return encoder_stages(model)

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return every site in the order of execution."""
        return (
            *self.encoder_sites(model),
            *decoder_sites(model, NAMES),
            *score_sites(model),
            *prompt_sites(),
        )

    def attention_configs(self, model: Any) -> tuple[Any, ...]:
        """Return the encoder's config; the decoder's attentions are replaced."""
        return (model.config.vision_config.backbone_config,)

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return the model cut into its smallest stages, in the order of execution."""
        return (
            *self.encoder_stages(model),
            *decoder_stages(model, _run_tokens, masks_of),
            mask_prompt_stage(),
        )

    def start(self, pixels: Tensor, prompts: Tensor | None = None, **others: Tensor) -> State:
        """Return the state before the first stage."""
        given = others if prompts is None else {"prompts": prompts, **others}
        return {"hidden": pixels, **given}

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return (1, C, h, w), (1, C / 4, 2h, 2w) and (1, C / 8, 4h, 4w)."""
        state = {"hidden": pixels}
        for stage in self.encoder_stages(model):
            state = stage.run(model, state)
        return state["hidden"], state["s1"], state["s0"]

    def decode(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, P, M, 4h, 4w) and predicted IoUs (1, P, M)."""
        image, *fine = embedding
        placed = without_memory(model, image), *fine
        masks, ious, _, _ = decode_tokens(model, placed, multimask_output, **prompts)
        return masks, ious


def decoder_stages(model: Any, run_tokens: Run, run_mask_head: Run) -> Iterator[Stage]:
    """Yield the stages of the decoder up to its masks.

    Args:
        run_tokens: makes its tokens, with `tokens_of`.
        run_mask_head: makes masks of them, with `masks_of`.
    """
    made = ("tokens", "image")
    boxed, offset = ("tokens", "token_positions"), image_offset(NAMES)
    yield Stage("mask_decoder.tokens", run_tokens, made, shared=offset, per_box=boxed)
    yield from two_way_stages(model, NAMES)
    yield Stage("mask_decoder", run_mask_head, OUTPUTS, per_box=OUTPUTS)


def tokens_of(model: Any, state: State, image: Tensor) -> State:
    """Return the state of the two-way transformer.

    Args:
        image: (1, C, h, w), or (P, C, h, w) if each object has an embedding of its own.
    """
    decoder: Sam2MaskDecoder = model.mask_decoder
    own = (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)
    tokens = torch.cat([token.weight for token in own])
    started = start_tokens(model, {**state, "hidden": image}, tokens)
    return {"s0": state["s0"], "s1": state["s1"], **started}


def decode_tokens(
    model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decode prompts on an embedding that holds a memory, or what stands for none.

    Without points and boxes SAM 2 is asked with a point that is none.

    Returns:
        Mask logits (1, P, M, 4h, 4w), predicted IoUs (1, P, M), the masks' tokens (1, P, M, C) and
        the logits of an object being there (1, P, 1).
    """
    image, s1, s0 = embedding
    given = {f"input_{name}": None for name in ("points", "labels", "boxes", "masks")}
    if not {"input_points", "input_boxes"} & prompts.keys():
        prompts["input_points"] = image.new_zeros(1, 1, 1, 2)
        prompts["input_labels"] = -torch.ones(1, 1, 1, dtype=torch.int64, device=image.device)
    sparse, dense = model.prompt_encoder(**{**given, **prompts})
    decoder: Sam2MaskDecoder = model.mask_decoder
    return decoder(
        image_embeddings=image,
        image_positional_embeddings=model.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask_output,
        high_resolution_features=[s0, s1],
    )


def without_memory(model: Any, image: Tensor) -> Tensor:
    """Return the embedding (1, C, h, w) of an image that no other frames came before."""
    return image + model.no_memory_embedding.view(1, -1, 1, 1)


def _run_tokens(model: Any, state: State) -> State:
    return tokens_of(model, state, without_memory(model, state["hidden"]))


def masks_of(model: Any, state: State, multiply: Multiply = logits_of) -> State:
    """Return the logits (P, masks, 4h, 4w), the IoUs (P, masks) and the object's score (P, 1).

    The tokens (1, P, T, C) that they were made of are returned too.
    """
    decoder: Sam2MaskDecoder = model.mask_decoder
    tokens = state["tokens"][0]
    upscaled = decoder.upscale_conv1(image_of_tokens(model, state)) + state["s1"]
    upscaled = decoder.activation(decoder.upscale_layer_norm(upscaled))
    upscaled = decoder.activation(decoder.upscale_conv2(upscaled) + state["s0"])
    scores = decoder.pred_obj_score_head(tokens[:, 0])
    found = masks_and_ious(decoder, tokens[:, 1:], upscaled, multiply)
    return {**found, "scores": scores, "tokens": state["tokens"]}

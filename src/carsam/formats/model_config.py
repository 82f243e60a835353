"""Refusing a model configuration that no carsam wrote before anything is built from it."""

from collections.abc import Mapping
from typing import Any

MOST_TOKENS = 512
"""Tokens along a side of the encoder's image; SAM has 64."""

MOST_FINE_TOKENS = 1024
"""The same of Hiera's first stage; SAM 2 has 256."""

LONGEST_SIDE = 1 << 13
"""Pixels along a side of the input; SAM has 1024."""

WIDEST = 1 << 16
"""Channels or heads of anything."""


def check_model_config(config: Mapping[str, Any], tensors: int) -> None:
    """Refuse a model configuration that asks for more than a file of so many tensors can hold.

    Keys of other families, and keys that are missing, are left to those who read them.

    Raises:
        ValueError: naming the key, what was found and what was expected.
    """
    _check_section("", config, tensors)
    vision, decoder = config.get("vision_config", {}), config.get("mask_decoder_config", {})
    if not isinstance(vision, dict) or not isinstance(decoder, dict):
        raise ValueError("vision_config and mask_decoder_config are not both objects")
    for place, section in (("vision_config", vision), ("mask_decoder_config", decoder)):
        width = section.get("hidden_size", 0) // section.get("attention_downsample_rate", 1)
        _check_divides(section.get("num_attention_heads", 1), width, f"{place}: heads", "channels")
    patch, image = vision.get("patch_size", 1), vision.get("image_size", 0)
    _check_divides(patch, image, "vision_config: patch_size", "image_size")
    _check_patches(image // patch, MOST_TOKENS)
    backbone, prompts = vision.get("backbone_config"), config.get("prompt_encoder_config")
    if isinstance(backbone, dict) and isinstance(prompts, dict):
        stride = backbone.get("patch_stride", backbone.get("patch_size", 1))
        strides = stride if isinstance(stride, list) else [stride]
        _check_patches(prompts.get("image_size", 0) // min(strides), MOST_FINE_TOKENS)


def _check_patches(count: int, most: int) -> None:
    if count > most:
        raise ValueError(
            f"vision_config: an image of {count} patches per side; expected at most {most}"
        )


POSITIVE = (
    "attention_downsample_rate",
    "fpn_hidden_size",
    "hidden_size",
    "image_size",
    "intermediate_size",
    "iou_head_depth",
    "iou_head_hidden_dim",
    "mask_input_channels",
    "memory_attention_num_layers",
    "memory_fuser_num_layers",
    "mlp_dim",
    "num_attention_heads",
    "num_channels",
    "num_hidden_layers",
    "num_multimask_outputs",
    "num_pos_feats",
    "output_channels",
    "patch_kernel_size",
    "patch_size",
    "patch_stride",
    "pretrain_image_size",
    "query_stride",
    "window_positional_embedding_background_size",
)
"""Keys of a model configuration that count something."""

MAY_BE_0 = ("window_size", "patch_padding")
"""Such keys that may be 0; a window of 0 is the whole image."""

LISTS = ("global_attn_indexes", "global_attention_blocks", "fpn_top_down_levels")
"""Keys of lists of integers."""

NUMBERS = {
    "layer_norm_eps": (0, 1),
    "mlp_ratio": (0, 64),
    "dynamic_multimask_stability_delta": (-1, 1 << 16),
    "dynamic_multimask_stability_thresh": (-1, 2),
}
"""Keys of other numbers, and what these lie between."""

COUNTS_OF_TENSORS = (
    "num_hidden_layers",
    "iou_head_depth",
    "num_multimask_outputs",
    "memory_attention_num_layers",
    "memory_fuser_num_layers",
)

PER_STAGE = (
    "blocks_per_stage",
    "embed_dim_per_stage",
    "num_attention_heads_per_stage",
    "window_size_per_stage",
)
"""Lists of counts in a model configuration of SAM 2, one for each stage of Hiera."""

PAIRS = (
    "image_size",
    "patch_kernel_size",
    "patch_padding",
    "patch_size",
    "patch_stride",
    "query_stride",
    "window_positional_embedding_background_size",
)
"""Counts that may be given for height and width, as a list of both."""


def _check_section(place: str, section: Mapping[str, Any], tensors: int) -> None:
    for key, value in section.items():
        name = f"{place}.{key}" if place else key
        if isinstance(value, dict):
            _check_section(name, value, tensors)
        elif key in PAIRS and "blocks_per_stage" in section and isinstance(value, list):
            if len(value) != 2:
                raise ValueError(f"{name} is {short(value)}; expected a number or two")
            for one in value:
                _check_number(name, key, one, tensors)
        else:
            _check_number(name, key, value, tensors)
    if "blocks_per_stage" in section:
        _check_stages(place, section, tensors)


def _check_stages(place: str, section: Mapping[str, Any], tensors: int) -> None:
    """Refuse a Hiera whose lists do not describe the same stages, or too many blocks."""
    lists = {key: section.get(key) for key in PER_STAGE}
    for key, counts in lists.items():
        if (
            not isinstance(counts, list)
            or len(counts) != len(section["blocks_per_stage"])
            or not all(is_integer(count) and 0 < count <= WIDEST for count in counts)
        ):
            raise ValueError(f"{place}.{key} is {short(counts)}; expected a count for each stage")
    blocks = sum(section["blocks_per_stage"])
    if blocks > tensors:
        raise ValueError(f"{place}: {blocks} blocks; expected at most {tensors}")
    widths, heads = section["embed_dim_per_stage"], section["num_attention_heads_per_stage"]
    for width, count in zip(widths, heads, strict=True):
        _check_divides(count, width, f"{place}: heads", "channels")


def _check_number(place: str, key: str, value: Any, tensors: int) -> None:
    """Refuse a count that is none, or that the file cannot justify."""
    if key in NUMBERS:
        lowest, highest = NUMBERS[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{place} is {short(value)}; expected a number")
        if not lowest < value < highest:
            raise ValueError(
                f"{place} is {short(value)}; expected a number between {lowest} and {highest}"
            )
    elif key in LISTS:
        if not isinstance(value, list) or not all(is_integer(index) for index in value):
            raise ValueError(f"{place} is no list of integers")
    elif key in POSITIVE or key in MAY_BE_0:
        lowest = 1 if key in POSITIVE else 0
        highest = {"image_size": LONGEST_SIDE, **dict.fromkeys(COUNTS_OF_TENSORS, tensors)}.get(
            key, WIDEST
        )
        if not is_integer(value) or not lowest <= value <= highest:
            raise ValueError(
                f"{place} is {short(value)}; expected an integer from {lowest} to {highest}"
            )


def _check_divides(divisor: int, number: int, what: str, of: str) -> None:
    if number % divisor:
        raise ValueError(f"{what}, {divisor}, does not divide {of}, {number}")


def short(value: Any) -> str:
    """A value of a damaged file as text that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_integer(value: Any) -> bool:
    """Tell whether a value of a file is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)

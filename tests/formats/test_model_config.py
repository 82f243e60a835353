"""Configurations of SAM 2 that ask for more than a file can hold, or make no sense."""

import copy

import pytest

from carsam.formats.model_config import check_model_config

BACKBONE = {
    "blocks_per_stage": [1, 2, 7, 2],
    "embed_dim_per_stage": [96, 192, 384, 768],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [8, 4, 14, 7],
    "image_size": [1024, 1024],
    "patch_stride": [4, 4],
}
CONFIG = {
    "image_size": 1024,
    "memory_attention_num_layers": 4,
    "vision_config": {"backbone_config": BACKBONE, "fpn_hidden_size": 256},
    "prompt_encoder_config": {"image_size": 1024, "patch_size": 16},
}


def test_a_released_configuration_is_sound():
    check_model_config(CONFIG, 400)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("blocks_per_stage", [1, 2, 700, 2], "705 blocks; expected at most 400"),
        ("blocks_per_stage", [1, 2, 10**9, 2], "blocks_per_stage is .* a count for each stage"),
        ("blocks_per_stage", 12, "blocks_per_stage is 12"),
        ("window_size_per_stage", [8, 4, 14], "window_size_per_stage is .* each stage"),
        ("num_attention_heads_per_stage", [1, 2, 5, 8], "heads, 5, does not divide channels, 384"),
        ("embed_dim_per_stage", [96, 192, 384, -768], "embed_dim_per_stage is"),
        ("patch_stride", [4, 0], "patch_stride is 0"),
        ("image_size", [10**9, 4], "image_size is 1000000000"),
        ("query_stride", [2], r"query_stride is \[2\]; expected a number or two"),
        ("query_stride", "2", "query_stride is '2'"),
        ("patch_padding", [-1, 3], "patch_padding is -1; expected an integer from 0"),
        ("window_positional_embedding_background_size", [7, 0], "background_size is 0"),
        ("global_attention_blocks", 5, "global_attention_blocks is no list of integers"),
        ("mlp_ratio", "4", "mlp_ratio is '4'; expected a number"),
        ("mlp_ratio", -4, "mlp_ratio is -4; expected a number between 0 and 64"),
        ("layer_norm_eps", True, "layer_norm_eps is True; expected a number"),
    ],
)
def test_a_backbone_that_makes_no_sense_is_refused(key, value, reason):
    config = copy.deepcopy(CONFIG)
    config["vision_config"]["backbone_config"][key] = value
    with pytest.raises(ValueError, match=f"{reason}"):
        check_model_config(config, 400)


def test_an_image_of_too_many_patches_is_refused():
    prompts = {"prompt_encoder_config": {"image_size": 8192}}
    with pytest.raises(
        ValueError, match="an image of 2048 patches per side; expected at most 1024"
    ):
        check_model_config({**CONFIG, **prompts}, 400)


def test_more_layers_of_memory_than_tensors_are_refused():
    with pytest.raises(ValueError, match="memory_attention_num_layers is 401"):
        check_model_config({**CONFIG, "memory_attention_num_layers": 401}, 400)

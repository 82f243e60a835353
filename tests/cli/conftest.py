"""A tiny model, photos and a quantized run, for the commands."""

from pathlib import Path

import pytest

from carsam.cli import main
from carsam.images.scenes import write_scenes


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    """Folder of a random SAM as small as one can be: 32 pixels, a window and a global block."""
    from transformers import SamConfig, SamModel

    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "output_channels": 16,
        "window_size": 2,
        "global_attn_indexes": [1],
        "num_pos_feats": 8,
        "mlp_dim": 32,
        "initializer_range": 0.02,  # the default makes every activation vanish
    }
    prompts = {"hidden_size": 16, "image_size": 32, "patch_size": 8}
    decoder = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 8}
    folder = tmp_path_factory.mktemp("model")
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    SamModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """Folder with `instances.json` and `images/`."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), 3, seed=1, size=64).parent


@pytest.fixture(scope="session")
def run(model: str, scenes: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--images", str(scenes / "images"), "--out", str(out), "--recipe", "rtn", "--quiet"]
    for choice in ("weights", "activations"):
        options += ["--set", f"round-to-nearest.{choice}=minmax"]
    assert main(["quantize", model, *options]) == 0
    return out

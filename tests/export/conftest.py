"""Exports of tiny models, and what others run them with."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def usual_run(randomise_, tmp_path_factory) -> Path:
    """Run of a random SAM with the usual input of 1024 pixels and 64 x 64 tokens; W4A4."""
    from tiny_runs import quantized_pair
    from transformers import SamConfig, SamModel

    from carsam.formats.checkpoint import write_checkpoint

    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "output_channels": 32,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
        "mlp_dim": 64,
    }
    decoder: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "mlp_dim": 64}
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32},
        mask_decoder_config={**decoder, "iou_head_hidden_dim": 32},
    )
    model = SamModel(config).eval()
    randomise_(model)
    checkpoint = quantized_pair(model, lambda path: 4, lambda *_: 4).checkpoint
    folder = tmp_path_factory.mktemp("usual") / "run"
    write_checkpoint(folder, checkpoint.manifest, checkpoint.tensors)
    return folder


@pytest.fixture(scope="session")
def usual_export(usual_run: Path) -> Path:
    """Exact ONNX export of `usual_run`."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from carsam.export.onnx.write import write_onnx
    from carsam.progress import make_progress

    folder = usual_run.parent / "onnx"
    write_onnx(usual_run, folder, True, None, 1, False, make_progress("quiet"))
    return folder

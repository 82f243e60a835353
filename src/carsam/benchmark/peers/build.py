"""The model files of other runtimes, built once with the runtimes' own public packages.

Weights are random: speed and memory do not depend on them, and the original is not needed.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carsam.benchmark.inputs import BATCHES
from carsam.families import load_model
from carsam.families.base import Family
from carsam.families.registry import architecture_of
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.folders import whole_folder

ONNX_VERSION = 20
"""The first version of ONNX's operators in which GELU is one operator."""


def build(run: str | Path, folder: Path, formats: Sequence[str]) -> None:
    """Build what is not there yet of `formats`, and of what they are made from.

    Args:
        run: quantized model whose geometry the files get.
        folder: gets one folder per format.
        formats: keys of `BUILDERS`.
    """
    for name in formats:
        source, builder = BUILDERS[name]
        if (folder / name).exists():
            continue
        if source is not None:
            build(run, folder, [source])
        with whole_folder(folder / name) as partial:
            builder(Path(run) if source is None else folder / source, partial)


@torch.no_grad()
def _draw_float_model(run: Path, folder: Path) -> None:
    """Save a transformers model of the run's geometry; the initial weights would be nearly 0."""
    from transformers import AutoConfig

    torch.manual_seed(0)
    config = AutoConfig.for_model(**read_checkpoint(run).manifest["model_config"])
    model = architecture_of(config)(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)


@torch.no_grad()
def _export_onnx(source: Path, folder: Path) -> None:
    """Export the encoder, and the decoder for each number of boxes in `BATCHES`."""
    family, model = load_model(source)
    pixels = torch.zeros(1, 3, *[family.framing(model.config).side] * 2)
    embedding = family.encode(model, pixels)
    _export(_Encoder(family, model), (pixels,), folder / "encoder.onnx")
    for boxes in BATCHES:
        prompts = torch.tensor([[[8.0, 8.0, 24.0, 24.0]] * boxes])
        _export(_Decoder(family, model), (prompts, *embedding), folder / f"decoder_{boxes}.onnx")


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], path: Path) -> None:
    torch.onnx.export(
        module.eval(),
        example,
        path,
        dynamo=True,
        external_data=False,  # ONNX Runtime's tools do not follow it
        opset_version=ONNX_VERSION,
        verbose=False,
    )


class _Encoder(nn.Module):
    def __init__(self, family: Family, model: Any) -> None:
        super().__init__()
        self.family, self.model = family, model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.family.encode(self.model, pixels)


class _Decoder(_Encoder):
    def forward(self, boxes: torch.Tensor, *embedding: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.family.decode(self.model, embedding, False, input_boxes=boxes)


def _quantize_onnx(source: Path, folder: Path) -> None:
    from carsam.benchmark.peers.onnx_int8 import quantize_statically

    quantize_statically(source, folder)


def _quantize_onnx_dynamically(source: Path, folder: Path) -> None:
    from carsam.benchmark.peers.onnx_int8 import quantize_dynamically

    quantize_dynamically(source, folder)


def _convert_to_openvino(source: Path, folder: Path) -> None:
    from carsam.benchmark.peers.openvino_files import convert

    convert(source, folder)


def _quantize_openvino(source: Path, folder: Path) -> None:
    from carsam.benchmark.peers.openvino_files import quantize

    quantize(source, folder)


BUILDERS: dict[str, tuple[str | None, Callable[[Path, Path], None]]] = {
    "float": (None, _draw_float_model),
    "onnx": ("float", _export_onnx),
    "onnx-int8": ("onnx", _quantize_onnx),
    "onnx-dynamic": ("onnx", _quantize_onnx_dynamically),
    "openvino": ("onnx", _convert_to_openvino),
    "openvino-int8": ("openvino", _quantize_openvino),
}
"""Formats: what each is made from (None: the run), and the function that makes it."""


def main() -> None:
    """Build what the arguments name: the run, the folder and the formats."""
    build(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])

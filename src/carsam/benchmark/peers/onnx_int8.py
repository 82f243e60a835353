"""ONNX Runtime's int8 models: static (QDQ, attention included) and dynamic."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from carsam.benchmark.peers.calibration import calibration_inputs

OPERATORS = ["MatMul", "Gemm", "Conv", "ConvTranspose"]


def quantize_statically(source: Path, folder: Path) -> None:
    """Quantize each ONNX model in `source` into `folder`; products of the attention too."""
    for path in sorted(source.glob("*.onnx")):
        with tempfile.TemporaryDirectory() as temporary:
            prepared = Path(temporary) / path.name
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                folder / path.name,
                _Reader(path),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )


def quantize_dynamically(source: Path, folder: Path) -> None:
    """Quantize the weights of each ONNX model in `source`; inputs get their ranges as they come."""
    for path in sorted(source.glob("*.onnx")):
        quantize_dynamic(
            path,
            folder / path.name,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


class _Reader(CalibrationDataReader):
    def __init__(self, path: Path) -> None:
        inputs = onnxruntime.InferenceSession(path).get_inputs()
        shapes = {entry.name: entry.shape for entry in inputs}
        self._rows = iter(calibration_inputs(shapes))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)

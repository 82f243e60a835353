"""OpenVINO's models: float, and int8 by NNCF with the attention quantized too."""

from pathlib import Path

import nncf
import openvino

from carsam.benchmark.peers.calibration import IMAGES, calibration_inputs


def convert(source: Path, folder: Path) -> None:
    """Convert each ONNX model in `source` into `folder`, in float32."""
    for path in sorted(source.glob("*.onnx")):
        _save(openvino.convert_model(path), folder / path.stem)


def quantize(source: Path, folder: Path) -> None:
    """Quantize each model of OpenVINO in `source` into `folder`."""
    for path in sorted(source.glob("*.xml")):
        model = openvino.Core().read_model(path)
        shapes = {entry.any_name: tuple(entry.shape) for entry in model.inputs}
        dataset = nncf.Dataset(calibration_inputs(shapes))
        quantized = nncf.quantize(
            model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=IMAGES
        )
        _save(quantized, folder / path.stem)


def _save(model: openvino.Model, path: Path) -> None:
    openvino.save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)

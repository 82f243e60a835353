"""Other programs' own inference classes, unchanged, load exports and find carsam's masks.

The photo is as large as AnyLabeling makes every photo, so that no two resizings differ.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from carsam.images.scenes import scene
from carsam.predict.predictor import SamPredictor

pytest.importorskip("cv2")

POINT, BOX = [400.0, 300.0], [200.0, 150.0, 700.0, 500.0]
MARKS = [{"type": "point", "data": POINT, "label": 1}], [{"type": "rectangle", "data": BOX}]
SAME = 0.999


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """RGB, 684 x 1024."""
    return np.ascontiguousarray(scene(3, size=1024).image[:684])


@pytest.fixture(scope="module")
def expected(usual_run: Path, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """carsam's masks of the point and of the box."""
    predictor = SamPredictor(usual_run)
    predictor.set_image(photo)
    masks, ious, _ = predictor.predict(np.array([POINT]), np.array([1]))
    boxed, *_ = predictor.predict(box=BOX, multimask_output=False)
    return masks[ious.argmax()], boxed[0]


@pytest.fixture
def load(client: Callable[[str], Path]) -> Iterator[Callable[[str, str], ModuleType]]:
    """Function (program, module) -> that module; what its packages import first is left out.

    That is the window, which needs Qt.
    """
    before = set(sys.modules)

    def load(program: str, name: str) -> ModuleType:
        folder, parts = client(program), name.split(".")
        for count in range(1, len(parts)):
            package = ModuleType(".".join(parts[:count]))
            package.__path__ = [str(folder.joinpath(*parts[:count]))]
            sys.modules[package.__name__] = package
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("anylabeling", "samexporter"):
            del sys.modules[name]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float((one & other).sum() / (one | other).sum())


def assert_finds(model: Any, image: np.ndarray, expected: tuple[np.ndarray, np.ndarray]) -> None:
    embedding = model.encode(image)
    for marks, mask in zip(MARKS, expected, strict=True):
        found = model.predict_masks(embedding, marks)
        assert found.shape[:2] == (1, 1)
        assert overlap(found[0, 0] > 0, mask) >= SAME


@pytest.mark.parametrize("program", ["anylabeling", "x-anylabeling"])
def test_anylabeling(program, load, usual_export, photo, expected) -> None:
    module = load(program, "anylabeling.services.auto_labeling.sam_onnx")
    paths = (str(usual_export / name) for name in ("encoder_hwc.onnx", "decoder.onnx"))
    assert_finds(module.SegmentAnythingONNX(*paths), photo, expected)


@pytest.mark.parametrize("encoder", ["encoder_hwc.onnx", "encoder.onnx"])
def test_samexporter(encoder, load, usual_export, photo, expected) -> None:
    module = load("samexporter", "samexporter.sam_onnx")
    model = module.SegmentAnythingONNX(
        str(usual_export / encoder),
        str(usual_export / "decoder.onnx"),
        providers=["CPUExecutionProvider"],
    )
    assert_finds(model, np.ascontiguousarray(photo[..., ::-1]), expected)


def test_osam_which_labelme_runs(usual_export, photo, expected, monkeypatch) -> None:
    osam = pytest.importorskip("osam")
    import onnxruntime
    from osam._models.sam._models import Sam

    class Carsam(Sam):
        name = "carsam:latest"
        _blobs: ClassVar = {}  # nothing to download

        def __init__(self) -> None:
            self._inference_sessions = {
                name: onnxruntime.InferenceSession(usual_export / f"{name}.onnx")
                for name in ("encoder", "decoder")
            }

    monkeypatch.setattr(osam.apis, "registered_model_types", [Carsam])
    prompts = ([POINT], [1]), ([BOX[:2], BOX[2:]], [2, 3])
    for (points, labels), mask in zip(prompts, expected, strict=True):
        prompt = osam.types.Prompt(points=np.array(points), point_labels=np.array(labels))
        request = osam.types.GenerateRequest(model="carsam", image=photo, prompt=prompt)
        (annotation,) = osam.apis.generate(request).annotations
        corner = annotation.bounding_box
        found = np.zeros_like(mask)
        rows, columns = slice(corner.ymin, corner.ymax + 1), slice(corner.xmin, corner.xmax + 1)
        found[rows, columns] = annotation.mask
        assert overlap(found, mask) >= SAME

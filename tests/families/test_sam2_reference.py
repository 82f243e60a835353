"""SAM 2 against Meta's own package: numbers it gave once, and now where it is installed."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import sam2_reference as reference
import torch

import carsam
from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.families import FAMILIES
from carsam.families.video import Recollection

FAMILY = FAMILIES["sam2_video"]


@pytest.fixture(scope="module")
def numbers():
    return json.loads(reference.FILE.read_text())


@pytest.fixture(scope="module")
def model():
    return reference.seeded_model()


@pytest.fixture(scope="module")
def predictor(model):
    predictor = carsam.SAM2ImagePredictor(TorchVideoEngine(FAMILY, model, "float"))
    predictor.set_image(reference.photo())
    return predictor


def assert_near(found, expected):
    np.testing.assert_allclose(reference.sample(found), expected, atol=1e-4)


@pytest.mark.parametrize("name", reference.RELEASED)
def test_the_names_are_metas(numbers, name):
    assert reference.names_digest(reference.metas_shapes(name)) == numbers["names"][name]


@pytest.mark.parametrize("name", reference.PROMPTS)
def test_masks_are_metas(predictor, numbers, name):
    masks, ious, low_res = predictor.predict(**reference.PROMPTS[name], return_logits=True)
    for part, found in (("masks", masks), ("ious", ious), ("low_res", low_res)):
        assert_near(found, numbers[name][part])


def test_what_is_recalled_and_remembered_is_metas(model, predictor, numbers):
    embedding = tuple(torch.from_numpy(part)[None] for part in predictor._images[0].features)
    values, positions = reference.memory()
    frames = torch.arange(reference.CELLS).repeat(2)
    cells = torch.cat([frames, -torch.ones(reference.POINTER_TOKENS).long()])
    with torch.inference_mode():
        recalled = FAMILY.recall(model, embedding, Recollection(values, positions, cells))[0]
        tokens, _ = FAMILY.remember(model, embedding, reference.memory_mask(), torch.ones(1, 1))
    assert_near(recalled.flatten(2)[0], numbers["recalled"])
    assert_near(tokens[0], numbers["remembered"])


@pytest.mark.skipif(find_spec("sam2") is None, reason="needs Meta's package, sam2==1.1.0")
def test_meta_gives_these_numbers_now(numbers):
    """In a process of its own, as a stand-in takes torchvision's place there."""
    script = "import json, sam2_reference; print(json.dumps(sam2_reference.metas_numbers()))"
    folder = reference.FILE.parent
    said = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True)
    found = json.loads(said.stdout.splitlines()[-1])
    assert found["names"] == numbers["names"]
    for name in reference.PROMPTS:
        for part, expected in numbers[name].items():
            np.testing.assert_allclose(found[name][part], expected, atol=1e-4)
    for name in ("recalled", "remembered"):
        np.testing.assert_allclose(found[name], numbers[name], atol=1e-4)

"""The session against Meta's own predictor, of which the numbers are kept."""

import json

import numpy as np
import sam2_reference
import sam2_video_reference as reference

from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.families import FAMILIES
from carsam.video.predictor import SAM2VideoPredictor


def test_masks_are_metas():
    model = sam2_reference.seeded_model(reference.with_objects)
    predictor = SAM2VideoPredictor(TorchVideoEngine(FAMILIES["sam2_video"], model, "float"))
    found = list(reference.played(predictor, predictor.init_state(reference.frames())))
    expected = json.loads(reference.FILE.read_text())
    assert len(found) == len(expected) == 3 + 4 + 2 + 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    assert np.ptp(expected[-1]) > 1

import numpy as np
import torch

from carsam.calibration.calibration_set import CalibrationSet
from carsam.engines.torch_engine import TorchEngine
from carsam.families import FAMILIES
from carsam.images.clicks import are_clicks
from carsam.images.preprocess import preprocess
from carsam.images.read import sample_images
from carsam.progress import Silent
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam"]


def test_views_are_the_states_of_their_pictures(tiny_sam, image_folder):
    engine = TorchEngine(FAMILY, prepare(FAMILY, tiny_sam), "float", "cpu")
    sample = sample_images(image_folder, 2, 0, warn=print)
    calibration = CalibrationSet(sample, None, 5, 0.5, 0)
    states = calibration.states(FAMILY, engine, Silent())
    views = calibration.views(engine, states)
    assert len(views) == 3 * len(sample)
    for image, state, mirrored in zip(sample, states, views[: len(sample)], strict=True):
        pixels, frame = preprocess(np.flip(image, 1).copy(), engine.framing)
        rows, other = state["prompts"][0], mirrored["prompts"][0]
        expected = FAMILY.start(torch.from_numpy(pixels)[None], mirrored["prompts"])
        assert all(torch.equal(mirrored[name], expected[name]) for name in expected)
        width = frame.input_size[1]
        torch.testing.assert_close(other[:, 1::2], rows[:, 1::2])
        torch.testing.assert_close(other[:, 0] + rows[:, 2], torch.full((5,), float(width)))
        torch.testing.assert_close(other[:, 2] + rows[:, 0], torch.full((5,), float(width)))
        assert torch.equal(are_clicks(other), are_clicks(rows))
    assert all(view["prompts"].shape == (1, 5, 4) for view in views)

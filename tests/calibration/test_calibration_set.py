import numpy as np
import torch

from carsam.calibration.calibration_set import CalibrationSet
from carsam.engines.torch_engine import TorchEngine
from carsam.families import FAMILIES
from carsam.images.preprocess import preprocess
from carsam.images.read import sample_images
from carsam.progress import Silent
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam"]


def test_mirrored_states_are_those_of_mirror_images(tiny_sam, image_folder):
    engine = TorchEngine(FAMILY, prepare(FAMILY, tiny_sam), "float", "cpu")
    sample = sample_images(image_folder, 2, 0, warn=print)
    calibration = CalibrationSet(sample, None, 5, 0.5, 0)
    states = calibration.states(FAMILY, engine, Silent())
    for image, state, mirrored in zip(
        sample, states, calibration.mirrored(engine, states), strict=True
    ):
        pixels, frame = preprocess(np.flip(image, 1).copy(), engine.framing)
        rows, other = state["prompts"][0], mirrored["prompts"][0]
        expected = FAMILY.start(torch.from_numpy(pixels)[None], mirrored["prompts"])
        assert all(torch.equal(mirrored[name], expected[name]) for name in expected)
        width = frame.input_size[1]
        assert torch.equal(other[:, 1::2], rows[:, 1::2])
        torch.testing.assert_close(other[:, 0] + rows[:, 2], torch.full((5,), float(width)))
        torch.testing.assert_close(other[:, 2] + rows[:, 0], torch.full((5,), float(width)))

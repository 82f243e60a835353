import numpy as np
import torch
from torch.nn.functional import conv2d, interpolate

from carsam.video import arithmetic

GENERATOR = np.random.default_rng(0)
MASK = GENERATOR.random((45, 60)) > 0.6


def test_bfloat16_is_torchs():
    values = (GENERATOR.normal(size=5000) * 10.0 ** GENERATOR.integers(-20, 20, 5000)).astype("f4")
    values = np.concatenate([values, np.float32([0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, np.inf])])
    found = arithmetic.from_bfloat16(arithmetic.to_bfloat16(values))
    np.testing.assert_array_equal(found, torch.from_numpy(values).bfloat16().float().numpy())


def test_a_resized_mask_is_torchs():
    given = torch.from_numpy(MASK.astype("f4"))[None, None]
    for size in ((64, 64), (32, 32), (45, 60)):
        expected = interpolate(given, size, mode="bilinear", antialias=True)[0, 0] >= 0.5
        different = arithmetic.resized_mask(MASK, size) != expected.numpy()
        assert different.mean() < 0.002  # where half of a pixel is the mask, rounding decides


def test_logits_of_a_mask_are_torchs():
    mask = arithmetic.resized_mask(MASK, (64, 64))
    given = torch.from_numpy(mask)[None, None] * 20.0 - 10.0
    expected = interpolate(given, (16, 16), mode="bilinear", antialias=True)[0, 0]
    np.testing.assert_allclose(arithmetic.logits_of_mask(mask, 16), expected.numpy(), atol=1e-5)


def test_the_prompt_of_a_mask_is_a_convolution():
    mask, weight = arithmetic.resized_mask(MASK, (64, 64)), GENERATOR.normal(size=(4, 4))
    given, kernel = (torch.from_numpy(a).double()[None, None] for a in (mask, weight))
    expected = conv2d(given, kernel, stride=4)[0, 0] + 0.25
    found = arithmetic.prompt_of_mask(mask, (weight.astype("f4"), 0.25), 16)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_masks_of_other_sides_are_resized_as_torch_does():
    mask, kernel = arithmetic.resized_mask(MASK, (64, 64)), (np.ones((4, 4), np.float32), 0.0)
    logits = torch.from_numpy(arithmetic.logits_of_mask(mask, 64))
    prompt = torch.from_numpy(arithmetic.prompt_of_mask(mask, kernel, 16))
    for found, values, side in (
        (arithmetic.logits_of_mask(mask, 18), logits, 18),
        (arithmetic.prompt_of_mask(mask, kernel, 18), prompt, 18),
        (arithmetic.resized(logits.numpy(), 72), logits, 72),
    ):
        given = values[None, None]
        expected = interpolate(given, (side, side), mode="bilinear", antialias=True)[0, 0]
        np.testing.assert_allclose(
            found, expected.numpy(), atol=2e-4
        )  # torch places pixels in float32


def test_probabilities_have_no_overflow():
    found = arithmetic.probabilities(np.float32([-1024, -1, 0, 1, 1024]))
    np.testing.assert_allclose(found, torch.tensor([-1024.0, -1, 0, 1, 1024]).sigmoid().numpy())


def test_sines():
    found = arithmetic.sines(np.array([0.0, 0.5]), 8)
    np.testing.assert_array_equal(found[0], [0] * 4 + [1] * 4)
    expected = [np.sin(0.5), np.sin(0.5), np.sin(0.005), np.sin(0.005)]
    np.testing.assert_allclose(found[1, :4], expected)


def test_of_overlapping_logits_the_highest_stay():
    logits = np.float32([[[1, -1, 2]], [[3, -20, 2]]])
    expected = np.float32([[[-10, -1, 2]], [[3, -20, -10]]])
    np.testing.assert_array_equal(arithmetic.without_overlaps(logits), expected)

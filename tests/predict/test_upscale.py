"""Upscaled masks against torch, and what they cost."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from carsam.images import strips
from carsam.images.preprocess import Frame, Framing
from carsam.predict.upscale import upscale_masks

SHARE_OF_ONE_THREAD = """
import time
import numpy as np
from threadpoolctl import threadpool_limits
from carsam.images.preprocess import Frame, Framing
from carsam.predict.upscale import upscale_masks
from carsam.runtime import kernels

low_res = np.random.default_rng(0).standard_normal((4, 256, 256), np.float32)
kernels.set_threads(1)
shares = [0.0]
with threadpool_limits(2):
    while max(shares) <= 0.8 and len(shares) < 10:  # a thread that was just made spins for a while
        process, own = time.process_time(), time.thread_time()
        while time.process_time() < process + 0.5:  # some systems count in steps of 10 ms
            upscale_masks(low_res, Frame((480, 640), Framing(1024)))
        shares.append((time.thread_time() - own) / (time.process_time() - process))
print(max(shares))
"""
SIZES = [(90, 120), (120, 90), (64, 64), (37, 501), (480, 640), (1365, 2048), (33, 31)]


def torch_upscaling(low_res, size, side):
    """Sam.postprocess_masks."""
    height, width = Frame(size, Framing(side)).input_size
    masks = functional.interpolate(torch.from_numpy(low_res), (side, side), mode="bilinear")
    return functional.interpolate(masks[..., :height, :width], size, mode="bilinear").numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("low", "side"), [(256, 1024), (32, 64), (64, 512)])
def test_upscaled_masks_equal_torch(size, low, side):
    low_res = 10 * np.random.default_rng(0).standard_normal((2, 3, low, low), np.float32)
    upscaled = upscale_masks(low_res, Frame(size, Framing(side)))
    np.testing.assert_allclose(upscaled, torch_upscaling(low_res, size, side), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(10000, 50), (3000, 4000), (1, 1), (1, 300)])
def test_upscaled_masks_of_extreme_images_equal_torch(size):
    low_res = 10 * np.random.default_rng(0).standard_normal((1, 1, 256, 256), np.float32)
    upscaled = upscale_masks(low_res, Frame(size, Framing(1024)))
    np.testing.assert_allclose(upscaled, torch_upscaling(low_res, size, 1024), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_masks_of_a_stretched_image_are_interpolated_once(size):
    low_res = 10 * np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    upscaled = upscale_masks(low_res, Frame(size, Framing(256, stretched=True)))
    expected = functional.interpolate(torch.from_numpy(low_res), size, mode="bilinear").numpy()
    np.testing.assert_allclose(upscaled, expected, rtol=0, atol=1e-4)


def test_binary_masks_are_the_positive_logits():
    low_res = np.random.default_rng(0).standard_normal((3, 32, 32), np.float32)
    frame = Frame((45, 60), Framing(64))
    masks = upscale_masks(low_res, frame, return_logits=False)
    assert masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, upscale_masks(low_res, frame) > 0)


def test_no_masks_upscale_to_no_masks():
    masks = upscale_masks(np.empty((0, 3, 32, 32), np.float32), Frame((5, 7), Framing(64)))
    assert masks.shape == (0, 3, 5, 7)


def test_a_logit_that_is_not_finite_stays_where_it_is() -> None:
    low_res = np.zeros((32, 32), np.float32)
    low_res[20, 20] = np.nan
    upscaled = upscale_masks(low_res, Frame((64, 64), Framing(64)))
    assert np.isnan(upscaled[40, 40])
    assert np.isfinite(upscaled[:30]).all() and np.isfinite(upscaled[50:]).all()


def test_no_thread_spins_beside_it() -> None:
    """In a process of its own, where no thread of another test is busy."""
    run = subprocess.run(
        [sys.executable, "-c", SHARE_OF_ONE_THREAD], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) > 0.8


def test_large_masks_are_made_in_strips_to_the_bit(monkeypatch) -> None:
    low_res = np.random.default_rng(0).standard_normal((2, 64, 64), np.float32)
    whole = upscale_masks(low_res, Frame((333, 500), Framing(256)))
    monkeypatch.setattr(strips, "STRIP_PIXELS", 7 * 500)
    np.testing.assert_array_equal(upscale_masks(low_res, Frame((333, 500), Framing(256))), whole)

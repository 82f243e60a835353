"""Preprocessing against segment-anything."""

import numpy as np
import pytest
import torch

from carsam.images.preprocess import (
    PIXEL_MEAN,
    PIXEL_STD,
    Frame,
    Framing,
    normalise_and_pad,
    preprocess,
    resize,
)

SIZES = [(90, 120), (120, 90), (64, 64), (37, 501), (480, 640), (1365, 2048), (33, 31)]


def photo_of(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def resizer(segment_anything):
    from segment_anything.utils.transforms import ResizeLongestSide

    return ResizeLongestSide


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [64, 1024])
def test_input_size_equals_segment_anything(resizer, size, side):
    assert Frame(size, Framing(side)).input_size == resizer.get_preprocess_shape(*size, side)


@pytest.mark.parametrize("size", SIZES)
def test_resized_image_equals_segment_anything(resizer, size):
    image = photo_of(*size)
    np.testing.assert_array_equal(resize(image, Framing(64)), resizer(64).apply_image(image))


def test_pixels_equal_segment_anything(segment_anything, resizer, photo):
    from segment_anything.modeling import Sam

    image_encoder = torch.nn.Identity()
    image_encoder.img_size = 64
    sam = Sam(image_encoder, torch.nn.Identity(), torch.nn.Identity())
    resized = torch.from_numpy(resizer(64).apply_image(photo)).permute(2, 0, 1)
    pixels, _ = preprocess(photo, Framing(64))
    np.testing.assert_allclose(pixels, sam.preprocess(resized).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_points_map_as_in_segment_anything(resizer, size):
    points = np.array([[0, 0], [12.3, 7], [-5, 700]])
    expected = resizer(1024).apply_coords(points, size).astype(np.float32)
    np.testing.assert_array_equal(Frame(size, Framing(1024)).map_points(points), expected)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_map_as_in_segment_anything(resizer, size):
    boxes = np.array([[0, 0, 10, 20.5], [3, 4, 700, 1]])
    expected = resizer(1024).apply_boxes(boxes, size).astype(np.float32)
    np.testing.assert_array_equal(Frame(size, Framing(1024)).map_boxes(boxes), expected)


def test_mapping_leaves_its_argument_alone():
    points = np.array([[1.0, 2.0]])
    Frame((10, 20), Framing(64)).map_points(points)
    assert points.tolist() == [[1.0, 2.0]]


def test_padding_is_zero():
    pixels = normalise_and_pad(photo_of(40, 64), Framing(64))
    assert not pixels[:, 40:].any()


def test_normalised_mean_is_zero():
    image = np.broadcast_to(np.rint(PIXEL_MEAN).astype(np.uint8), (4, 4, 3))
    assert np.abs(normalise_and_pad(image, Framing(4))).max() <= 0.5 / PIXEL_STD.min()


@pytest.mark.parametrize("size", [(10000, 50), (50, 10000), (1, 1), (1, 5000)])
def test_short_side_keeps_a_pixel(size):
    pixels, frame = preprocess(np.full((*size, 3), 255, np.uint8), Framing(64))
    assert min(frame.input_size) >= 1
    assert pixels.any()


@pytest.mark.parametrize("size", SIZES)
def test_a_stretched_image_equals_torch_in_floats(size):
    image = photo_of(*size)
    channels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(channels, (64, 64), mode="bilinear", antialias=True)
    found = resize(image, Framing(64, stretched=True))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=1e-3)


def test_a_stretched_image_fills_its_frame():
    frame = Frame((40, 80), Framing(64, stretched=True))
    assert frame.input_size == (64, 64)
    assert frame.map_boxes([0, 0, 80, 40]).tolist() == [0, 0, 64, 64]
    assert frame.map_points([[20, 10]]).tolist() == [[16, 16]]

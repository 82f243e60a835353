"""Images of more than 8 bits: which range becomes 0 to 255, and what stays as it is."""

import struct

import numpy as np
import pytest
from PIL import Image

from carsam.images.depth import to_eight_bits, used_range
from carsam.images.read import read_image, sample_images

GREY = (np.add.outer(np.arange(64), 2 * np.arange(96)) % 251).astype(np.uint8)
"""A grey image whose values go from 0 to 250."""

STRETCHED = np.rint(GREY * (255 / 250))


def read(array, path):
    """Save an array, read it back, and return one channel and what was said."""
    said = []
    Image.fromarray(array).save(path)
    image = read_image(path, warn=said.append)
    assert (image == image[..., :1]).all()
    return image[..., 0], said


DEEP = {
    "15 bits": (GREY.astype(np.uint16) << 7, "0 to 32000"),
    "12 bits": (GREY.astype(np.uint16) << 4, "0 to 4000"),
    "10 bits": (GREY.astype(np.uint16) << 2, "0 to 1000"),
    "8 bits": (GREY.astype(np.uint16), "0 to 250"),
    "8 bits from 1000 on": (GREY.astype(np.uint16) + 1000, "1000 to 1250"),
    "8 bits from 65000 on": (GREY.astype(np.uint16) + 65000, "65000 to 65250"),
    "12 bits, big-endian": ((GREY.astype(np.uint16) << 4).astype(">u2"), "0 to 4000"),
    "12 bits of 32": (GREY.astype(np.int32) << 4, "0 to 4000"),
    "20 bits of 32": (GREY.astype(np.int32) << 12, "0 to 1.024e+06"),
    "negative": (GREY.astype(np.int32) - 100, "-100 to 150"),
    "floats to 1": (GREY.astype(np.float32) / 250, "0 to 1"),
    "floats to 4000": (GREY.astype(np.float32) * 16, "0 to 4000"),
}


@pytest.mark.parametrize("name", DEEP)
def test_the_range_that_is_used_becomes_0_to_255_and_is_named(tmp_path, name):
    array, used = DEEP[name]
    grey, said = read(array, tmp_path / "deep.tif")
    rounding = array.dtype.kind == "f"  # halves, which floats meet from below or above
    np.testing.assert_allclose(grey, STRETCHED, rtol=0, atol=rounding)
    (sentence,) = said
    assert "deep.tif" in sentence and f"from {used} became 0 to 255" in sentence


@pytest.mark.parametrize("name", ["12 bits", "8 bits from 1000 on", "15 bits"])
def test_png_is_read_like_tiff(tmp_path, name):
    grey, _ = read(DEEP[name][0], tmp_path / "deep.png")
    np.testing.assert_array_equal(grey, STRETCHED)


@pytest.mark.parametrize("lowest", [0, 20000])
def test_a_full_range_keeps_its_upper_eight_bits_and_nothing_is_said(tmp_path, lowest):
    values = np.linspace(lowest, 65535, 64 * 96).astype(np.uint16).reshape(64, 96)
    grey, said = read(values, tmp_path / "deep.png")
    np.testing.assert_array_equal(grey, values >> 8)
    assert said == []


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_eight_bits_are_not_stretched(tmp_path, dtype):
    dark = (GREY // 100).astype(dtype)
    grey, said = read(dark, tmp_path / "dark.png")
    np.testing.assert_array_equal(grey, dark * (255 if dtype is np.bool_ else 1))
    assert said == []


@pytest.mark.parametrize("value", [0, 4095, 65535])
def test_an_image_of_one_value_keeps_its_upper_eight_bits(tmp_path, value):
    grey, said = read(np.full((4, 5), value, np.uint16), tmp_path / "flat.png")
    assert (grey == value >> 8).all()
    assert said == []


def test_hot_and_dead_pixels_take_no_contrast(tmp_path):
    deep = (GREY.astype(np.uint16) << 4) + 8000
    deep[3, 4], deep[5, 6] = 65535, 0
    grey, _ = read(deep, tmp_path / "deep.tif")
    assert (grey[3, 4], grey[5, 6]) == (255, 0)
    grey[3, 4], grey[5, 6] = STRETCHED[3, 4], STRETCHED[5, 6]
    np.testing.assert_allclose(grey, STRETCHED, rtol=0, atol=2)


def test_a_small_object_on_a_flat_ground_is_no_outlier():
    image = np.full((100, 100), 500, np.uint16)
    image[10:12, 10:12] = 900
    eight, _ = to_eight_bits(image)
    assert (eight[11, 11], eight[0, 0]) == (255, 0)


def test_few_bright_values_near_the_others_are_kept():
    assert used_range(np.append(np.arange(10_000), 15_000)).highest == 15_000


def test_large_images_are_converted_in_strips_without_a_seam():
    values = (np.arange(3000 * 800, dtype=np.int64) % 4001).reshape(3000, 800)
    eight, _ = to_eight_bits(values)
    np.testing.assert_array_equal(eight, np.rint(values * (255 / 4000)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_infinite_values_are_refused(tmp_path, bad):
    array = np.zeros((4, 4), np.float32)
    array[1, 1] = bad
    with pytest.raises(ValueError, match=r"deep\.tif.*not finite"):
        read(array, tmp_path / "deep.tif")


def sixteen_bit_colour(path, values, order):
    """Write an RGB TIFF of 16 bits per channel, which Pillow reads but does not write."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 8 + 2 + 9 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    out = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    out += struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        body = struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
        out += struct.pack(f"{order}HHI", tag, kind, count) + body
    out += struct.pack(f"{order}I3H", 0, 16, 16, 16)
    path.write_bytes(out + data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_colour_of_twelve_bits_in_sixteen_uses_what_pillow_keeps(tmp_path, order):
    colour = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1).astype(np.uint16) << 4
    sixteen_bit_colour(tmp_path / "deep.tif", colour, order)
    said = []
    image = read_image(tmp_path / "deep.tif", warn=said.append)
    np.testing.assert_array_equal(image, np.rint((colour >> 8) * (255 / 15)))
    assert "upper 8 bits from 0 to 15 became 0 to 255" in said[0]


def test_colour_of_sixteen_bits_keeps_its_upper_eight(tmp_path):
    colour = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1).astype(np.uint16) * 257
    sixteen_bit_colour(tmp_path / "deep.tif", colour, "<")
    said = []
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif", warn=said.append), colour >> 8)
    assert said == []


def test_dark_bitmaps_of_five_bits_a_channel_are_not_stretched(tmp_path):
    header = b"BM" + (0).to_bytes(8, "little") + (66).to_bytes(4, "little")
    info = b"".join(n.to_bytes(4, "little") for n in (40, 2, 1)) + b"\1\0\x10\0"
    info += b"".join(n.to_bytes(4, "little") for n in (3, 4, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F))
    (tmp_path / "dark.bmp").write_bytes(header + info + b"\0\0\x21\x08")
    said = []
    assert read_image(tmp_path / "dark.bmp", warn=said.append).max() < 20
    assert said == []


def test_deep_images_of_a_folder_are_named_once_each_and_counted_beyond_a_few(tmp_path):
    for index in range(8):
        Image.fromarray(GREY.astype(np.uint16) << 4).save(tmp_path / f"{index}.png")
    said = []
    sample = sample_images(tmp_path, 8, warn=said.append)
    list(sample)
    assert len(said) == 6
    assert said[-1].startswith("3 more images have more than 8 bits")


def test_a_pillow_image_is_stretched_like_its_file(tmp_path):
    said = []
    image = read_image(Image.fromarray(GREY.astype(np.uint16) << 4), warn=said.append)
    np.testing.assert_array_equal(image[..., 0], STRETCHED)
    assert "given by Pillow" in said[0]

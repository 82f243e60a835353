"""Very large photos: the limit of pixels, and the memory that reading takes."""

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carsam.errors import TooManyPixelsError, UserError
from carsam.images import decode
from carsam.images.preprocess import Framing, resize
from carsam.images.read import read_image, read_resized

WIDTH, HEIGHT = 15_000, 10_000
MEGABYTES_BESIDE_THE_ENTIRE_IMAGE = 60

MEASURE = """
import sys
from carsam.images.preprocess import Framing
from carsam.images.read import read_resized
from carsam.progress import peak_memory
before = peak_memory()
image, size = read_resized(sys.argv[1], Framing(256), max_megapixels=200)
print(image.shape, size, (peak_memory() - before) / 1e6)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Callable[..., Path]:
    """Function that saves a flat photo of 150 million pixels."""

    def save(name: str, mode: str = "L", **options) -> Path:
        path = tmp_path_factory.mktemp("large") / name
        Image.new(mode, (WIDTH, HEIGHT), 90).save(path, **options)
        return path

    return save


def measured(path: Path) -> tuple[str, float]:
    """Read a photo in a process of its own; return its sizes and the megabytes that it took."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    sizes, megabytes = done.stdout.rsplit(maxsplit=1)
    return sizes, float(megabytes)


def test_a_jpeg_of_150_megapixels_is_resized_in_little_memory(large):
    sizes, megabytes = measured(large("photo.jpg"))
    assert sizes == f"(171, 256, 3) ({HEIGHT}, {WIDTH})"
    assert megabytes < MEGABYTES_BESIDE_THE_ENTIRE_IMAGE


def test_a_turned_jpeg_keeps_its_true_size(large):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    sizes, megabytes = measured(large("turned.jpg", exif=exif))
    assert sizes == f"(256, 171, 3) ({WIDTH}, {HEIGHT})"
    assert megabytes < MEGABYTES_BESIDE_THE_ENTIRE_IMAGE


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("a.png", {"compress_level": 1}), ("a.tif", {})])
def test_other_formats_take_four_bytes_a_pixel(large, name, options):
    sizes, megabytes = measured(large(name, "RGB", **options))
    assert sizes == f"(171, 256, 3) ({HEIGHT}, {WIDTH})"
    assert megabytes < 4 * WIDTH * HEIGHT / 1e6 + MEGABYTES_BESIDE_THE_ENTIRE_IMAGE


@pytest.fixture
def photo_file(photo, tmp_path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo).save(path)
    return path


def test_a_large_jpeg_decoded_smaller_looks_the_same(photo, tmp_path, monkeypatch):
    Image.fromarray(np.kron(photo, np.ones((8, 8, 1), np.uint8))).save(tmp_path / "photo.jpg")
    whole, _ = read_resized(tmp_path / "photo.jpg", Framing(60))
    monkeypatch.setattr(decode, "ALWAYS_WHOLE", 1000)
    smaller, size = read_resized(tmp_path / "photo.jpg", Framing(60))
    assert size == (720, 960)
    assert not np.array_equal(smaller, whole)
    assert np.abs(smaller.astype(int) - whole).mean() < 1


def test_jpegs_of_ordinary_size_are_resized_to_the_bit_as_their_pixels(photo_file):
    resized, size = read_resized(photo_file, Framing(64))
    np.testing.assert_array_equal(resized, resize(read_image(photo_file), Framing(64)))
    assert size == (90, 120)


def test_the_message_names_size_limit_and_option(photo_file):
    with pytest.raises(TooManyPixelsError) as caught:
        read_image(photo_file, max_megapixels=0.01)
    for part in ("photo.jpg", "120 x 90", "10000 pixels", "--max-megapixels", "max_megapixels="):
        assert part in str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp", "gif", "bmp"])
def test_a_higher_limit_lets_a_photo_through_without_a_warning(
    photo, tmp_path, monkeypatch, ending
):
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(photo).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path, max_megapixels=1).shape == (90, 120, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_refused(photo_file, limit):
    with pytest.raises(UserError, match="megapixels"):
        read_image(photo_file, max_megapixels=limit)


def test_pillows_limit_survives_many_threads(photo_file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    limits = [1, 0.001, None]
    refused = []

    def read(limit):
        for _ in range(20):
            try:
                read_image(photo_file, max_megapixels=limit)
            except TooManyPixelsError:
                refused.append(limit)

    threads = [threading.Thread(target=read, args=(limit,)) for limit in limits * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert {limit: refused.count(limit) for limit in limits} == {1: 0, 0.001: 40, None: 40}

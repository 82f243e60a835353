"""Reading images of all kinds, and choosing some of a folder."""

import os

import numpy as np
import pytest
from PIL import Image

from carsam.errors import UserError
from carsam.images.read import list_images, read_image, sample_images


def saved(image, path, **options):
    image.save(path, **options)
    return path


@pytest.fixture
def picture(photo):
    return Image.fromarray(photo)


def test_lossless_file_is_read_exactly(picture, photo, tmp_path):
    np.testing.assert_array_equal(read_image(saved(picture, tmp_path / "a.png")), photo)


def test_path_may_be_a_string(picture, photo, tmp_path):
    np.testing.assert_array_equal(read_image(str(saved(picture, tmp_path / "a.png"))), photo)


def test_pillow_image_is_read_exactly(picture, photo):
    np.testing.assert_array_equal(read_image(picture), photo)


def test_array_is_returned(photo):
    np.testing.assert_array_equal(read_image(photo), photo)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(picture, mode):
    base = picture.convert("L") if mode in ("LA", "PA") else picture
    image = read_image(base.convert(mode))
    assert (image.shape, image.dtype) == ((90, 120, 3), np.uint8)
    if mode not in ("1", "P", "PA"):
        expected = base.convert("L" if mode in ("L", "LA") else "RGB").convert("RGB")
        np.testing.assert_allclose(image.astype(int), np.asarray(expected).astype(int), atol=3)


def test_transparency_is_dropped(picture, photo):
    picture.putalpha(0)
    np.testing.assert_array_equal(read_image(picture), photo)


@pytest.mark.filterwarnings("error")
def test_palette_with_transparent_entries_is_read(picture, tmp_path):
    path = tmp_path / "a.png"
    picture.quantize(4).save(path, transparency=bytes([0, 128, 255, 255]))
    expected = picture.quantize(4).convert("RGB")
    np.testing.assert_array_equal(read_image(path), np.asarray(expected))


@pytest.mark.parametrize("suffix", [".jpg", ".cmyk.jpg", ".gif", ".webp", ".tif", ".bmp"])
def test_common_formats_are_read(picture, photo, tmp_path, suffix):
    image = picture.convert("CMYK") if "cmyk" in suffix else picture
    difference = read_image(saved(image, tmp_path / f"a{suffix}")).astype(int) - photo
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path, suffix):
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    path = saved(Image.fromarray(deep), tmp_path / f"deep.{suffix}")
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_big_endian_sixteen_bits_keep_their_upper_eight():
    deep = Image.frombytes("I;16B", (2, 1), bytes([1, 0, 255, 255]))
    assert read_image(deep)[0, :, 0].tolist() == [1, 255]


@pytest.mark.parametrize("values", [[-100, 0, 155], [0, 100_000, 255_000], [0.0, 0.5, 1.27]])
def test_deeper_values_are_scaled_by_their_range(values):
    deep = np.array([values], np.float32 if isinstance(values[0], float) else np.int32)
    scaled = (deep - deep.min()) * (255 / (deep.max() - deep.min()))
    image = read_image(Image.fromarray(deep), warn=[].append)
    np.testing.assert_allclose(image[0, :, 0], scaled[0], atol=0.5)


def test_constant_float_image_is_black():
    assert not read_image(Image.fromarray(np.full((2, 2), 7, np.float32))).any()


def test_exif_orientation_is_applied(picture, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    path = saved(picture, tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(photo, -1))


@pytest.mark.parametrize("size", [(1, 1), (10000, 50), (50, 10000)])
def test_extreme_sizes_are_read(tmp_path, size):
    path = saved(Image.new("RGB", size), tmp_path / "a.png")
    assert read_image(path).shape == (size[1], size[0], 3)


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(array):
    refused(lambda: read_image(array), str(array.shape), str(array.dtype), "(height, width, 3)")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is text, not a picture", "no known format"),
        (b"", "0 bytes"),
        (b"\x89PNG\r\n\x1a\n broken", "Cannot read"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    refused(lambda: read_image(path), str(path), reason)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_truncated_file_is_refused(picture, tmp_path, suffix):
    path = saved(picture, tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(lambda: read_image(path), str(path), "Cannot read image")


def test_truncated_pillow_image_is_refused(picture, tmp_path):
    path = saved(picture, tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Image.open(path) as image:
        refused(lambda: read_image(image), "truncated")


def test_missing_file_is_refused(tmp_path):
    refused(lambda: read_image(tmp_path / "none.png"), "none.png", "no such file")


def test_folder_as_image_is_refused(tmp_path):
    refused(lambda: read_image(tmp_path), str(tmp_path), "folder")


def test_image_without_pixels_is_refused():
    refused(lambda: read_image(Image.new("RGB", (0, 5))), "0 x 5")


def test_float_image_with_nan_is_refused():
    refused(lambda: read_image(Image.fromarray(np.full((2, 2), np.nan, np.float32))), "not finite")


@pytest.mark.parametrize("limit", [90 * 120 - 1, 90 * 120 // 3])
def test_too_many_pixels_are_refused(picture, tmp_path, monkeypatch, limit):
    path = saved(picture, tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    refused(lambda: read_image(path), str(path), f"more than {limit} pixels")


@pytest.fixture
def folder(tmp_path):
    """Seven images of different colours, one in a subfolder, among other files."""
    for index in range(6):
        Image.new("RGB", (8, 8), (index * 20, 0, 0)).save(tmp_path / f"image_{index}.png")
    (tmp_path / "deeper").mkdir()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "deeper" / "LAST.JPG", "JPEG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._image_0.png").write_text("another system's note")
    return tmp_path


NAMES = ["deeper/LAST.JPG", *(f"image_{index}.png" for index in range(6))]


def test_listing_is_sorted_and_recursive(folder):
    assert [path.relative_to(folder).as_posix() for path in list_images(folder)] == NAMES


def test_missing_folder_is_refused(tmp_path):
    refused(lambda: list_images(tmp_path / "none"), "none", "does not exist")


def test_file_as_folder_is_refused(folder):
    refused(lambda: list_images(folder / "notes.txt"), "is a file")


def test_folder_without_images_is_refused(tmp_path):
    refused(lambda: list_images(tmp_path), str(tmp_path), ".jpeg")


def no_warning(message):
    raise AssertionError(message)


def test_sample_has_no_image_twice(folder):
    sample = sample_images(folder, 7, warn=no_warning)
    assert sorted(sample.names) == NAMES
    assert len(sample) == 7


def test_sample_is_repeatable_whatever_the_listing(folder, monkeypatch):
    first = sample_images(folder, 4, seed=3, warn=no_warning)
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: _Reversed(scandir(path)))
    assert sample_images(folder, 4, seed=3, warn=no_warning) == first


class _Reversed(list):
    """A listing of a folder, backwards."""

    def __init__(self, entries):
        super().__init__(reversed(list(entries)))
        entries.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_seeds_choose_differently(folder):
    assert len({sample_images(folder, 3, seed, warn=no_warning).names for seed in range(5)}) > 1


def test_larger_sample_starts_with_the_smaller(folder):
    small, large = (sample_images(folder, count, warn=no_warning) for count in (2, 5))
    assert large.names[:2] == small.names


def test_sample_is_chosen_among_given_names(folder):
    among = {"image_1.png": None, "deeper/LAST.JPG": None, "elsewhere.png": None}
    sample = sample_images(folder, 2, among=among, warn=no_warning)
    assert set(sample.names) == {"image_1.png", "deeper/LAST.JPG"}


def test_given_names_in_another_folder_are_refused(folder):
    refused(lambda: sample_images(folder, 2, among={"a.png"}, warn=no_warning), str(folder))


def test_images_are_read_on_demand(folder):
    sample = sample_images(folder, 7, warn=no_warning)
    index = sample.names.index("image_3.png")
    assert sample[index][0, 0].tolist() == [60, 0, 0]
    assert [image.shape for image in sample] == [(8, 8, 3)] * 7


def test_digest_follows_the_contents(folder):
    before = sample_images(folder, 7, warn=no_warning)
    Image.new("RGB", (8, 8), (1, 1, 1)).save(folder / "image_2.png")
    after = sample_images(folder, 7, warn=no_warning)
    assert before.names == after.names
    assert before.sha256 != after.sha256


def test_damaged_image_is_replaced_by_the_next(folder):
    whole = sample_images(folder, 4, warn=no_warning)
    (folder / whole.names[1]).write_text("damaged")
    warnings = []
    sample = sample_images(folder, 3, warn=warnings.append)
    assert sample.names == (whole.names[0], *whole.names[2:])
    assert sample.skipped == (whole.names[1],)
    assert len(warnings) == 1
    assert whole.names[1] in warnings[0]


def test_fewer_than_asked_is_a_warning(folder):
    warnings = []
    assert len(sample_images(folder, 32, warn=warnings.append)) == 7
    assert "Found 7 readable images" in warnings[0]
    assert "asked for 32" in warnings[0]


def test_fewer_than_asked_is_refused_when_exact(folder):
    refused(lambda: sample_images(folder, 32, exact=True, warn=no_warning), "7", "asked for 32")


def test_no_readable_image_is_refused(folder):
    for name in NAMES:
        (folder / name).write_text("damaged")
    refused(lambda: sample_images(folder, 3, warn=[].append), "Found 0", "7 skipped")


def test_asking_for_no_image_is_refused(folder):
    refused(lambda: sample_images(folder, 0, warn=no_warning), "at least 1")

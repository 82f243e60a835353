import codecs

import pytest

from carsam.errors import UserError
from carsam.evaluation.json_reading import corners, number, read_json, shown, whole_number

DOCUMENT = '{"name": "Straße"}'


@pytest.fixture
def read(tmp_path):
    """Function that writes bytes to a file and reads them as json."""

    def read(data: bytes):
        path = tmp_path / "some.json"
        path.write_bytes(data)
        return read_json(path)

    return read


@pytest.mark.parametrize(
    "data",
    [
        DOCUMENT.encode(),
        DOCUMENT.encode("utf-8-sig"),
        DOCUMENT.encode("utf-16"),
        DOCUMENT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + DOCUMENT.encode("utf-16-be"),
        DOCUMENT.encode("utf-32"),
    ],
)
def test_every_encoding_of_unicode_is_read(read, data):
    assert read(data) == {"name": "Straße"}


def test_malformed_json_names_line_and_column(read):
    with pytest.raises(UserError, match=r"some\.json is not valid json.*line 2, column 4"):
        read(b'{"images":\n[1 2]}')


@pytest.mark.parametrize("data", [b"", b" ", b"[1, 2", b"{} {}", b"\xef\xbb\xbf"])
def test_cut_files_are_refused(read, data):
    with pytest.raises(UserError, match=r"some\.json is not valid json"):
        read(data)


@pytest.mark.parametrize("data", [b"\x89PNG\xff", b"\xff\xfe\x00", DOCUMENT.encode("latin-1")])
def test_binary_files_are_refused(read, data):
    with pytest.raises(UserError, match=r"some\.json is not UTF-\d+ text at byte"):
        read(data)


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_deep_nesting_is_refused(read, depth):
    with pytest.raises(UserError, match=r"some\.json nests lists or objects too deeply"):
        read(b"[" * depth + b"]" * depth)


def test_numbers_of_too_many_digits_are_refused(read):
    with pytest.raises(UserError, match=r"some\.json cannot be read: .*digits"):
        read(b"9" * 10_000)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_json(tmp_path / "nothing.json")


@pytest.mark.parametrize("value", [12, 12.0, "12", " 12.0 ", "1.2e1"])
def test_whole_numbers_may_be_floats_or_text(value):
    assert whole_number(value) == 12


@pytest.mark.parametrize("value", [12.5, "12.5", "twelve", None, True, [12], float("inf"), 10**400])
def test_nothing_else_is_a_whole_number(value):
    assert whole_number(value) is None


@pytest.mark.parametrize("value", [float("nan"), "nan", "1e999", -(10**400), "", {}, False])
def test_numbers_are_finite(value):
    assert number(value) is None


def test_boxes_become_corners():
    assert corners([10, "20", 30, 5.5]) == (10, 20, 40, 25.5)


@pytest.mark.parametrize("value", [None, [], [1, 2, 3], [1, 2, 3, None], "1234", [1e308] * 4])
def test_nothing_else_is_a_box(value):
    assert corners(value) is None


def test_messages_show_long_and_deep_values_shortly():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) < 130
    assert len(shown("a" * 1000)) < 130


def test_messages_show_only_printable_characters():
    assert shown("a\n\x1b[31m\ud800é") == r"a\n\x1b[31m\ud800é"

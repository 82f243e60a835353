"""Files that appear whole or not at all."""

import errno
import os
import threading
from pathlib import Path

import pytest

from carsam.errors import UserError
from carsam.formats.files import (
    check_writable,
    is_disk_full,
    whole_file,
    write_if_possible,
    write_whole,
)

ADVICE = "Name another."


def test_a_file_takes_the_place_of_an_older_one(tmp_path):
    path = tmp_path / "new" / "deeper" / "a.json"
    for content in (b"first", b"second"):
        write_whole(path, content, ADVICE)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["a.json"]


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.json", ADVICE) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def write(path: Path, advice: str) -> None:
    write_whole(path, b"content", advice)


@pytest.mark.parametrize(
    "place", ["{tmp}/note/deeper/a.json", "{tmp}", "/proc/none/a.json", "{tmp}/" + "a" * 300]
)
@pytest.mark.parametrize("use", [check_writable, write])
def test_a_place_that_cannot_be_written_is_refused_in_a_sentence(tmp_path, place, use):
    (tmp_path / "note").write_text("mine")
    path = Path(place.format(tmp=tmp_path))
    with pytest.raises(UserError) as caught:
        use(path, ADVICE)
    assert str(caught.value).startswith(f"Cannot write {path}: ")
    assert str(caught.value).endswith(ADVICE)
    assert os.listdir(tmp_path) == ["note"]


@pytest.mark.parametrize("name", ["a.json", "new/deeper/a.json", "old.json"])
def test_a_check_makes_nothing(tmp_path, name):
    (tmp_path / "old.json").write_text("old")
    check_writable(tmp_path / name, ADVICE)
    assert os.listdir(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_devices_are_written_to(tmp_path):
    read, write = os.pipe()
    write_whole(Path(f"/dev/fd/{write}"), b"content", ADVICE)
    assert os.read(read, 99) == b"content"
    os.close(read)
    os.close(write)


def test_a_full_device_is_named():
    check_writable(Path("/dev/full"), ADVICE)
    with pytest.raises(UserError, match="Cannot write /dev/full: No space left on device"):
        write_whole(Path("/dev/full"), b"content", ADVICE)


def test_what_a_result_can_do_without_is_a_warning(tmp_path):
    said = []
    write_if_possible(tmp_path / "a.svg", lambda path: path.write_text("a"), said.append)
    assert said == [] and (tmp_path / "a.svg").exists()
    write_if_possible(tmp_path / "b.svg", lambda path: 1 / 0, said.append)
    assert said == [f"{tmp_path / 'b.svg'} could not be made: division by zero."]


def test_writers_at_the_same_time_do_not_mix(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([letter]) * 100_000 for letter in b"abcdef"]
    writers = [threading.Thread(target=write_whole, args=(path, c, ADVICE)) for c in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_a_sentence(tmp_path, limited_files):
    path = tmp_path / "file"
    write_whole(path, b"old", ADVICE)
    with limited_files(1000), pytest.raises(ValueError, match=r"Cannot write .*file.*Make room"):
        write_whole(path, bytes(5000), "Make room.")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_from_other_errors():
    assert is_disk_full(OSError(errno.ENOSPC, ADVICE))
    assert is_disk_full(ValueError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(PermissionError(errno.EACCES, ADVICE))
    assert not is_disk_full(ValueError("os error"))

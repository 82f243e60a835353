import errno
import threading

import pytest

from carsam.formats.files import is_disk_full, write_whole


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        write_whole(path, content, "")
        assert path.read_bytes() == content
    assert [path] == list(path.parent.iterdir())


def test_writers_at_the_same_time_do_not_mix(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([letter]) * 100_000 for letter in b"abcdef"]
    writers = [threading.Thread(target=write_whole, args=(path, c, "")) for c in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_a_sentence(tmp_path, limited_files):
    path = tmp_path / "file"
    write_whole(path, b"old", "")
    with limited_files(1000), pytest.raises(ValueError, match=r"Cannot write .*file.*Make room"):
        write_whole(path, bytes(5000), "Make room.")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_from_other_errors():
    assert is_disk_full(OSError(errno.ENOSPC, ""))
    assert is_disk_full(ValueError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(PermissionError(errno.EACCES, ""))
    assert not is_disk_full(ValueError("os error"))

import pytest

from carsam.errors import UserError
from carsam.formats.failed_downloads import read_head


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in", "it is a web page"),
        (b"\n <HTML lang=en>", "it is a web page"),
        (b"<?xml version='1.0'?><Error>", "it is a web page"),
    ],
)
def test_what_a_failed_download_leaves_is_named(tmp_path, content, found):
    (tmp_path / "sam.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"Cannot read .*sam\.pth: .*{found}"):
        read_head(tmp_path / "sam.pth")


def test_a_folder_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        read_head(tmp_path)


def test_the_beginning_is_returned(tmp_path):
    (tmp_path / "sam.pth").write_bytes(bytes(range(256)) * 4)
    assert read_head(tmp_path / "sam.pth") == bytes(range(256)) * 2

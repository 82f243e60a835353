"""Listing a folder's images: every format, links, and what is passed over."""

import os
import socket

import numpy as np
import pytest
from PIL import Image

from carsam.errors import UserError
from carsam.images.listing import endings
from carsam.images.read import list_images, read_image, sample_images

PICTURE = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))


def names(folder, **tell):
    said = {"warn": print, **tell}
    return [path.relative_to(folder).as_posix() for path in list_images(folder, **said)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_format_that_pillow_writes_and_reads_is_found_in_any_case(tmp_path):
    readable = []
    for ending in sorted(endings()):
        path = tmp_path / f"a{ending.upper()}"
        try:
            PICTURE.save(path)
            read_image(path)
        except Exception:
            path.unlink(missing_ok=True)
            continue
        readable.append(path.name)
    assert {"a.AVIF", "a.JFIF", "a.JP2", "a.PNG", "a.QOI", "a.TGA"} <= set(readable)
    assert names(tmp_path) == sorted(readable)


def test_what_pillow_only_writes_is_no_image(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / "a.pdf")
    assert names(tmp_path) == ["a.png"]


@pytest.fixture
def linked(tmp_path):
    """A folder with a linked file and a linked folder of images from elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for place in ("one.png", "deep/two.png"):
        PICTURE.save(elsewhere / place)
    folder = tmp_path / "photos"
    folder.mkdir()
    PICTURE.save(folder / "zero.png")
    (folder / "album").symlink_to(elsewhere)
    (folder / "single.png").symlink_to(elsewhere / "one.png")
    return folder


def test_linked_files_and_folders_are_found_under_their_own_names(linked):
    assert names(linked) == ["album/deep/two.png", "album/one.png", "single.png", "zero.png"]


def test_linked_images_can_be_sampled(linked):
    sample = sample_images(linked, 4, warn=print)
    assert len(sample) == 4 and sample.skipped == ()


def test_a_folder_that_is_a_link_is_listed(linked, tmp_path):
    (tmp_path / "link").symlink_to(linked)
    assert len(names(tmp_path / "link")) == 4


def test_loops_of_links_end(linked):
    for index in range(6):
        (linked / f"loop{index}").symlink_to(linked)
        (linked / "album" / f"back{index}").symlink_to(linked / "album")
    told = []
    assert len(names(linked, info=told.append)) == 4
    assert "folders searched already under another name (12: " in told[0]


def test_a_folder_keeps_its_name_where_a_link_leads_to_it_too(tmp_path):
    (tmp_path / "real").mkdir()
    PICTURE.save(tmp_path / "real" / "a.png")
    (tmp_path / "a_link").symlink_to(tmp_path / "real")
    assert names(tmp_path) == ["real/a.png"]


def test_what_cannot_be_read_is_a_warning_with_number_and_names(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    for index in range(7):
        (tmp_path / f"empty{index}.jpg").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    warnings = []
    assert names(tmp_path, warn=warnings.append) == ["a.png"]
    (warning,) = warnings
    assert "empty files (7: empty0.jpg, empty1.jpg," in warning and " and 2 more)" in warning
    assert "broken links (2: gone.png, itself.png)" in warning


def test_what_is_no_image_is_told_but_no_warning(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / ".hidden.png")
    (tmp_path / ".git").mkdir()
    PICTURE.save(tmp_path / ".git" / "b.png")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "album.jpg").mkdir()
    PICTURE.save(tmp_path / "album.jpg" / "c.png")
    os.mkfifo(tmp_path / "pipe.png")
    told, warnings = [], []
    found = names(tmp_path, warn=warnings.append, info=told.append)
    assert found == ["a.png", "album.jpg/c.png"]
    assert warnings == []
    (sentence,) = told
    for part in (
        "hidden files and folders (2: .git, .hidden.png)",
        "files without the ending of an image (1: notes.txt)",
        "folders with the ending of an image, searched as folders (1: album.jpg)",
        "pipes and devices (1: pipe.png)",
    ):
        assert part in sentence


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UserError, match=r"Found no image .*empty\.png.*notes\.txt"):
        list_images(tmp_path)


def test_a_socket_is_no_image(tmp_path, monkeypatch):
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.png")
    assert names(tmp_path) == ["a.png"]


def test_unreadable_images_are_named_a_few_and_counted(tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.png").write_text("no image")
    PICTURE.save(tmp_path / "whole.png")
    warnings = []
    sample = sample_images(tmp_path, 10, warn=warnings.append)
    assert sample.names == ("whole.png",) and len(sample.skipped) == 9
    assert [w.startswith("Skipped an image.") for w in warnings] == [True] * 5 + [False] * 2
    assert warnings[5] == "4 more images were skipped."


def test_names_that_are_not_unicode_are_sampled(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    PICTURE.save(tmp_path / name)
    assert sample_images(tmp_path, 1, warn=print).names == (name,)

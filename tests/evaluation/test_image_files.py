import os

import pytest
from PIL import Image

from carsam.errors import UserError
from carsam.evaluation.image_files import find_files
from carsam.evaluation.warning_log import WarningLog


@pytest.fixture
def find(tmp_path):
    """Function that looks for names among files: (files, names) -> found, warnings' names."""

    def find(files, *names):
        folder = tmp_path / "images"
        for file in [*files, "else/other.png"]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(folder / file, format="PNG")
        log = WarningLog()
        found = find_files([*names, "other.png"], folder, log)
        del found["other.png"]
        return found, [warning["name"] for warning in log.to_json()]

    return find


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("sub/a.png", "sub/a.png"),
        ("sub/a.png", "sub\\a.png"),
        ("a.png", "images\\a.png"),
        ("a.png", "train2017/a.png"),
        ("a.png", "../train2017/a.png"),
        ("a.png", "/data/coco/train2017/a.png"),
        ("a.png", "C:\\data\\coco\\a.png"),
        ("a.png", "http://images.cocodataset.org/train2017/a.png"),
        ("sub/a.png", "a.png"),
        ("sub/a.png", "train2017/a.png"),
        ("a.PNG", "a.png"),
        ("A.png", "train2017/a.PNG"),
        ("a b.png", "a%20b.png"),
        ("ä.png", "a\u0308.png"),
        ("100%25.png", "100%25.png"),
    ],
)
def test_the_only_file_of_that_name_is_found(find, file, name):
    assert find([file], name) == ({name: file}, [])


@pytest.mark.skipif(os.sep == "\\", reason="a back-slash is no character of a name here")
def test_a_back_slash_in_the_name_itself_is_kept(find):
    assert find(["sub\\a.png", "sub/a.png"], "sub\\a.png")[0] == {"sub\\a.png": "sub\\a.png"}


def test_an_absolute_path_into_the_folder_is_followed(find, tmp_path):
    name = str(tmp_path / "images" / "sub" / "a.png")
    assert find(["sub/a.png", "a.png"], name) == ({name: "sub/a.png"}, [])


def test_files_elsewhere_are_not_taken(find, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    assert find([], "../b.png", str(tmp_path / "b.png")) == ({}, ["missing-image"])


def test_of_several_files_that_in_the_same_folder_is_taken(find):
    found, warnings = find(["train/a.png", "val/a.png"], "coco/train/a.png", "coco/val/a.png")
    assert found == {"coco/train/a.png": "train/a.png", "coco/val/a.png": "val/a.png"}
    assert warnings == []


def test_of_several_files_that_of_the_same_case_is_taken(find):
    assert find(["A.png", "a.png"], "coco/a.png") == ({"coco/a.png": "a.png"}, [])


def test_several_files_alike_are_not_guessed_at(find):
    assert find(["train/a.png", "val/a.png"], "coco/a.png") == ({}, ["ambiguous-image"])


def test_one_file_is_not_two_images(find):
    assert find(["a.png"], "train/a.png", "val/a.png") == ({}, ["ambiguous-image"])


def test_the_image_at_the_jsons_path_keeps_its_file(find):
    assert find(["a.png"], "a.png", "val/a.png") == ({"a.png": "a.png"}, ["ambiguous-image"])


@pytest.mark.parametrize(
    "name", ["b.png", "..", ".", "/", "\\", "a\0.png", "x" * 5000, "\ud800", " "]
)
def test_images_that_are_not_there_are_counted(find, name):
    assert find(["a.png"], name) == ({}, ["missing-image"])


def test_no_image_at_all_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"None of the 2 images of some\.json is in .*a.png, b"):
        find_files(["a.png", "b.png"], tmp_path, WarningLog("folder/some.json"))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        find_files(["a.png"], tmp_path / "nowhere", WarningLog())

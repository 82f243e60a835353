"""`carsam masks`: files, going on after a stop, thresholds, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import carsam
from carsam.cli import main

ALL = ["--points", "2", "--iou", "-9", "--stability", "0", "--quiet"]


@pytest.fixture
def photos(scenes, tmp_path):
    """Two photos, one of them in a folder, and a file that is no photo."""
    (tmp_path / "photos/more").mkdir(parents=True)
    first, second, *_ = sorted((scenes / "images").iterdir())
    shutil.copy(first, tmp_path / "photos/first.png")
    shutil.copy(second, tmp_path / "photos/more/second.png")
    (tmp_path / "photos/broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


def test_a_folder_gives_a_json_and_pictures_for_each_photo(run, photos, tmp_path, capsys):
    out = tmp_path / "masks"
    assert main(["masks", str(run), str(photos), "--out", str(out), "--png", *ALL]) == 0
    said = capsys.readouterr()
    assert "in 2 images, 1 images skipped" in said.out and "broken.png" in said.err
    content = json.loads((out / "more/second.png.json").read_bytes())
    assert content["image"] == {"file_name": "more/second.png", "height": 64, "width": 64}
    records = carsam.SamAutomaticMaskGenerator(
        run, 2, pred_iou_thresh=-9, stability_score_thresh=0, output_mode="coco_rle"
    ).generate(photos / "more/second.png")
    numbered = [{"id": number, **record} for number, record in enumerate(records)]
    assert content["annotations"] == json.loads(json.dumps(numbered))
    for record in content["annotations"]:
        mask = coco_mask.decode(record["segmentation"])
        picture = Image.open(out / f"more/second.png.masks/{record['id']:04d}.png")
        np.testing.assert_array_equal(np.asarray(picture), mask * 255)


def test_what_is_done_is_passed_over(run, photos, tmp_path, capsys):
    command = ["masks", str(run), str(photos), "--out", str(tmp_path / "masks"), *ALL]
    assert main(command) == 0
    first = tmp_path / "masks/first.png.json"
    first.unlink()
    second = tmp_path / "masks/more/second.png.json"
    before = second.stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert "in 1 images, 1 images done before, 1 images skipped" in capsys.readouterr().out
    assert first.exists() and second.stat().st_mtime_ns == before


def test_a_photo_without_a_mask_has_an_empty_list_and_a_warning(run, photos, tmp_path, capsys):
    photo, out = photos / "first.png", tmp_path / "masks"
    command = ["masks", str(run), str(photo), "--out", str(out), "--points", "2", "--iou", "9"]
    assert main([*command, "--quiet"]) == 0
    said = capsys.readouterr()
    assert "0 masks in 1 images" in said.out
    assert "first.png: Found no mask: of 12 candidates" in said.err and "best is" in said.err
    assert json.loads((out / "first.png.json").read_bytes())["annotations"] == []


def test_other_settings_and_wrong_input_are_refused(run, photos, tmp_path, capsys):
    out = tmp_path / "masks"
    command = ["masks", str(run), str(photos), "--out", str(out)]
    assert main([*command, *ALL]) == 0
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "carsam-masks.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "only"
    broken.mkdir()
    shutil.copy(photos / "broken.png", broken)
    for arguments, sentence in (
        ([*command, *ALL, "--min-area", "5"], "another value of min_area"),
        ([*command[:-1], str(damaged), *ALL], "carsam-masks.json is damaged"),
        ([*command[:-1], str(photos / "first.png"), *ALL], "Cannot write"),
        ([*command, "--points", "0"], "points_per_side 0"),
        ([*command, "--crop-layers", "-1"], "crop_n_layers -1"),
        (["masks", str(run), str(tmp_path / "none"), "--out", "x"], "none"),
        (["masks", str(run), str(tmp_path / "empty"), "--out", "x"], "Found no image"),
        (["masks", str(run), str(photos / "broken.png"), "--out", "x"], "broken.png"),
        (["masks", str(run), str(broken), "--out", str(tmp_path / "y"), *ALL], "None of the 1"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2, arguments
        assert sentence in capsys.readouterr().err

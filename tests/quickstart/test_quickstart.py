"""The quickstart, with a tiny random model in the place of sam-mini."""

import json
from pathlib import Path

import pytest
from PIL import Image

from carsam.cli import main
from carsam.quickstart import photos, run
from carsam.quickstart.summary import MEANINGS, ROWS

EXPECTED = {
    "run",
    "run.json",
    "sam-mini-w4a4.json",
    "scenes",
    "side_by_side.png",
    "summary.json",
    "summary.md",
}


@pytest.fixture(autouse=True)
def small(monkeypatch, tiny_sam, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("model")
    tiny_sam.save_pretrained(folder)
    monkeypatch.setattr(run, "MODEL", str(folder))
    monkeypatch.setattr(run, "SCENE_SIZE", 64)
    monkeypatch.setattr(run, "CALIBRATION_IMAGES", 2)
    monkeypatch.setattr(run, "EVALUATION_IMAGES", 3)


def test_quickstart_leaves_model_numbers_and_picture(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(photos, "find_spec", lambda name: None)
    out = tmp_path / "quickstart"
    assert main(["quickstart", "--out", str(out), "--quiet"]) == 0
    assert {path.name for path in out.iterdir()} == EXPECTED
    picture = Image.open(out / "side_by_side.png")
    assert picture.height > 3 * 320  # a row for each of the scenes
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == 3
    assert list(summary["models"]) == ["float", "sam-mini-w4a4", "run"]
    assert all(0 <= numbers["mean_iou"] <= 1 for numbers in summary["models"].values())
    said = capsys.readouterr().out
    assert "carsam-plus w4a4" in said and f" info {out}/run" in said
    recorded = json.loads((out / "run" / "carsam.json").read_text())["metrics"]["quickstart"]
    assert recorded == summary["models"]["run"]


def test_every_number_is_explained() -> None:
    assert [label for label, _ in MEANINGS] == [label for label, *_ in ROWS]


def test_an_earlier_quickstart_is_kept_unless_forced(tmp_path: Path, capsys) -> None:
    (tmp_path / "summary.json").write_text("{}")
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err


def test_force_spares_folders_that_hold_something_else(tmp_path: Path, capsys) -> None:
    (tmp_path / "photo.jpg").write_text("dear to me")
    assert main(["quickstart", "--out", str(tmp_path), "--force"]) == 2
    assert (tmp_path / "photo.jpg").exists()


def test_photos_need_annotations(tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "quickstart")]
    assert main(["quickstart", *out, "--images", str(tmp_path)]) == 2
    assert "--coco" in capsys.readouterr().err


def test_nothing_is_left_when_it_fails(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run, "MODEL", str(tmp_path))
    assert main(["quickstart", "--out", str(tmp_path / "quickstart"), "--quiet"]) == 2
    assert not list(tmp_path.iterdir())

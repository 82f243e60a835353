import json

import numpy as np
import pytest
from PIL import Image
from tiny_video import write_davis
from without_torch import run_without_torch

from carsam.cli import main
from carsam.images.label_masks import read_labels


@pytest.fixture
def root(tmp_path):
    return write_davis(tmp_path / "davis")


@pytest.fixture
def model(tiny_sam2_video, tmp_path):
    tiny_sam2_video.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_masks_of_all_frames_are_written(root, model, tmp_path, capsys):
    frames, first = root / "JPEGImages/480p/two", root / "Annotations/480p/two/00000.png"
    command = ["track", model, str(frames), "--out", str(tmp_path / "masks"), "--quiet"]
    assert main([*command, "--mask", str(first)]) == 0
    assert "6 masks of 2 objects" in capsys.readouterr().out
    found = [read_labels(tmp_path / "masks" / f"{place:05d}.png") for place in range(6)]
    assert {label for each in found for label in np.unique(each)} <= {0, 1, 2}
    true = read_labels(first)
    assert (found[0] != true).mean() < 0.05
    assert Image.open(tmp_path / "masks/00000.png").getpalette()[3:9] == [128, 0, 0, 0, 128, 0]


def test_frames_before_the_prompt_are_followed_too(root, model, tmp_path):
    frames = root / "JPEGImages/480p/one"
    command = ["track", model, str(frames), "--out", str(tmp_path / "masks"), "--frame", "3"]
    assert main([*command, "--box", "10,4,40,30", "--point", "20,10", "--quiet"]) == 0
    assert len(list((tmp_path / "masks").iterdir())) == 6


def test_a_grey_mask_is_one_object(root, model, tmp_path, capsys):
    grey = np.full((48, 80), 255, np.uint8)
    grey[:20] = 0
    Image.fromarray(grey).save(tmp_path / "grey.png")
    frames = root / "JPEGImages/480p/one"
    command = ["track", model, str(frames), "--out", str(tmp_path / "masks"), "--quiet"]
    assert main([*command, "--mask", str(tmp_path / "grey.png")]) == 0
    assert "6 masks of 1 object\n" in capsys.readouterr().out
    assert set(np.unique(read_labels(tmp_path / "masks/00000.png"))) == {0, 1}


def test_wrong_options_get_a_sentence(root, model, tmp_path, capsys):
    frames = root / "JPEGImages/480p/one"
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((48, 80), np.uint8)).save(black)
    command = ["track", model, str(frames), "--out"]
    for options, sentence in (
        ([str(tmp_path / "masks")], "Give either --mask first.png, or --box"),
        ([str(tmp_path / "masks"), "--mask", str(black), "--box", "1,2,3,4"], "Give either --mask"),
        ([str(tmp_path / "masks"), "--mask", str(black)], "has no object: all its pixels are 0"),
        ([str(frames), "--box", "1,2,3,4"], "holds the frames themselves"),
        ([str(tmp_path / "masks"), "--box", "1,2,9,9", "--frame", "6"], "expected 0 to 5"),
    ):
        assert main([*command, *options]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()


def test_a_model_without_memory_is_refused(root, tmp_path, capsys):
    command = ["track", "sam-mini-w4a4", str(root / "JPEGImages/480p/one"), "--box", "1,2,9,9"]
    assert main([*command, "--out", str(tmp_path / "masks")]) == 2
    assert "has no memory, so that it segments single images only" in capsys.readouterr().err


def test_davis_is_evaluated(root, model, tmp_path, capsys):
    target = tmp_path / "result.json"
    command = ["evaluate", model, "--davis", str(root), "--json", str(target), "--quiet"]
    assert main([*command, "--year", "2017", "--prompts", "boxes"]) == 0
    shown = capsys.readouterr().out
    assert "2 sequences, DAVIS 2017, boxes" in shown and "J&F" in shown
    document = json.loads(target.read_text())
    assert document["format"] == "carsam-davis"
    assert document["J_and_F"] == (document["J"]["mean"] + document["F"]["mean"]) / 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert main([*command, "--coco", "x.json"]) == 2
    assert "--davis takes none of --coco" in capsys.readouterr().err
    assert main(["evaluate", model, "--json", str(target)]) == 2
    assert "Give --coco with --images, or --davis" in capsys.readouterr().err


def test_a_model_quantized_on_videos_follows_objects_without_torch(root, model, tmp_path, capsys):
    run, target = tmp_path / "run", tmp_path / "result.json"
    command = ["quantize", model, "--videos", str(root), "--recipe", "rtn", "--count", "2"]
    assert main([*command, "--out", str(run), "--quiet"]) == 0
    assert main(["info", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "family sam2_video" in shown and "clips made of videos: 1" in shown
    frames = root / "JPEGImages/480p/one"
    track = ["track", str(run), str(frames), "--box", "10,4,40,30", "--quiet", "--out"]
    assert main([*track, str(tmp_path / "simulated"), "--engine", "simulated"]) == 0
    evaluate = ["evaluate", str(run), "--davis", str(root), "--json", str(target), "--quiet"]
    code = "from carsam.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in ([*track, str(tmp_path / "native")], [*evaluate, "--engine", "native"]):
        result = run_without_torch(code, *command)
        assert result.returncode == 0, result.stderr
    assert json.loads(target.read_text())["mode"] == "native"
    found, expected = (
        np.stack([read_labels(path) for path in sorted((tmp_path / name).iterdir())])
        for name in ("native", "simulated")
    )
    assert len(found) == 6
    assert (found != expected).mean() < 0.001


def test_nothing_to_calibrate_on_gets_a_sentence(model, tmp_path, capsys):
    assert main(["quantize", model, "--out", str(tmp_path / "run")]) == 2
    assert "Found nothing to calibrate on; give images, or videos" in capsys.readouterr().err
    assert main(["quantize", model, "--out", str(tmp_path / "run"), "--videos", "nowhere"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err

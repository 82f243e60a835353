"""Outputs: refused before the work where they cannot be written, and numbers before pictures."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carsam.cli import main

RUN_CLI = "import sys\nfrom carsam.cli import main\nsys.exit(main(sys.argv[1:]))"

TOO_LONG = "A file cannot be read or written: File name too long"

NO_WORK = {
    "predict": ["predict", "no-model", "{photo}", "--box", "5,5,40,50", "--out", "{bad}/mask.png"],
    "overlay": [
        *("predict", "no-model", "{photo}", "--box", "5,5,40,50"),
        *("--out", "{good}/mask.png", "--overlay", "{bad}/overlay.png"),
    ],
    "embed": ["embed", "no-model", "{images}", "--cache", "{bad}/cache"],
    "masks": ["masks", "no-model", "{images}", "--out", "{bad}/masks"],
    "evaluate": [
        *("evaluate", "no-model", "--coco", "{coco}", "--images", "{images}"),
        *("--json", "{bad}/result.json"),
    ],
    "doctor": ["doctor", "no-model", "--images", "{images}", "--out", "{bad}/report"],
    "compare": [
        *("compare", "no-model", "--coco", "{coco}", "--images", "{images}", "--recipes", "rtn"),
        *("--out", "{bad}/table"),
    ],
    "quantize": ["quantize", "no-model", "--images", "{images}", "--out", "{bad}/run"],
    "bench": ["bench", "no-model", "--json", "{bad}/bench.json"],
}
"""Commands that name a model that is not there: what they complain of is what they check first."""


def filled(arguments, scenes: Path, **places) -> list[str]:
    images = scenes / "images"
    places |= {"photo": min(images.iterdir()), "images": images, "coco": scenes / "instances.json"}
    return [argument.format(**places) for argument in arguments]


@pytest.mark.parametrize("command", NO_WORK)
def test_a_file_where_a_folder_belongs_is_named_before_the_work(
    scenes, tmp_path, capsys, command
) -> None:
    (tmp_path / "note").write_text("mine")
    arguments = filled(NO_WORK[command], scenes, bad=tmp_path / "note", good=tmp_path)
    assert main([*arguments, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "note is a file" in said and said.startswith("carsam: Cannot write")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("command", NO_WORK)
def test_a_read_only_place_is_named_before_the_work(scenes, tmp_path, capsys, command) -> None:
    arguments = filled(NO_WORK[command], scenes, bad="/proc", good=tmp_path)
    assert main([*arguments, "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("carsam: Cannot write /proc")


def test_missing_folders_are_made(run, scenes, tmp_path) -> None:
    where = {"out": tmp_path / "new" / "masks", "photo": min((scenes / "images").iterdir())}
    outputs = ["--out", "{out}/mask.png", "--overlay", "{out}/deeper/overlay.jpg"]
    arguments = ["predict", str(run), "{photo}", "--box", "5,5,40,50", *outputs]
    assert main([argument.format(**where) for argument in arguments]) == 0
    assert Image.open(tmp_path / "new" / "masks" / "deeper" / "overlay.jpg").size == (64, 64)


@pytest.mark.parametrize("out", ["{tmp}/folder", "{tmp}/folder.png", "{tmp}"])
def test_a_folder_is_no_output_file(scenes, tmp_path, capsys, out) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    arguments = filled(NO_WORK["evaluate"][:-1], scenes)
    assert main([*arguments, out.format(tmp=tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))


def run_command(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN_CLI, *arguments]
    return subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False, **options)


def test_a_full_disk_is_named_and_nothing_half_written_stays(run, scenes, tmp_path) -> None:
    photo = min((scenes / "images").iterdir())
    out = str(tmp_path / "mask.png")
    arguments = ["predict", str(run), str(photo), "--box", "5,5,40,50", "--out", out]
    done = run_command(*arguments, preexec_fn=limit_files)
    assert done.returncode == 2
    assert done.stderr.startswith(f"carsam: Cannot write {out}: File too large.")
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_costs_predict_nothing(run, scenes, tmp_path, capsys):
    photo = min((scenes / "images").iterdir())
    arguments = ["predict", str(run), str(photo), "--box", "5,5,40,50"]
    assert main([*arguments, "--out", str(tmp_path / "a.png"), "--cache", "/proc/cache"]) == 0
    assert "Embeddings are not kept." in capsys.readouterr().err


EVALUATE = ["evaluate", "{run}", "--coco", "{coco}", "--images", "{images}", "--compare", "none"]


def test_the_result_is_written_before_it_is_printed(run, scenes, tmp_path) -> None:
    result = tmp_path / "result.json"
    arguments = filled([*EVALUATE, "--json", str(result), "--quiet"], scenes, run=run)
    with Path("/dev/full").open("w") as full:
        done = run_command(*arguments, stdout=full)
    assert done.returncode == 2
    assert "disk is full" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(result.read_text())["images"] == 3


def test_a_device_is_written_to_and_not_replaced(run, scenes, capsys) -> None:
    arguments = filled([*EVALUATE, "--json", "/dev/full", "--quiet"], scenes, run=run)
    assert main(arguments) == 2
    assert "Cannot write /dev/full: No space left on device" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()


def test_a_file_in_the_way_of_a_folder_is_named(scenes, tmp_path, capsys) -> None:
    (tmp_path / "cells").write_text("mine")
    arguments = [*NO_WORK["compare"][:-1], str(tmp_path)]
    assert main(filled(arguments, scenes)) == 2
    assert f"{tmp_path / 'cells'} is a file, not a folder" in capsys.readouterr().err


def test_what_the_system_refuses_is_a_sentence(tmp_path, capsys) -> None:
    name = "a" * 300
    assert main(["embed", "no-model", name, "--cache", str(tmp_path / "kept"), "--quiet"]) == 2
    assert capsys.readouterr().err == f"carsam: {TOO_LONG} ({name}).\n"


def test_a_plot_that_fails_does_not_lose_the_table(model, scenes, tmp_path, capsys) -> None:
    (tmp_path / "table.svg").mkdir()
    arguments = ["compare", model, "--coco", "{coco}", "--images", "{images}", "--recipes", "rtn"]
    quick = ["--bits", "w8a8", "--seeds", "1", "--count", "1", "--limit", "2"]
    arguments = filled([*arguments, *quick, "--out", str(tmp_path)], scenes)
    assert main([*arguments, "--quiet"]) == 0
    said = capsys.readouterr()
    assert f"{tmp_path / 'table.svg'} could not be made" in said.err
    assert json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (tmp_path / "cost.svg").is_file() and "| rtn |" in said.out


def test_pictures_that_fail_do_not_lose_the_diagnosis(run, scenes, tmp_path, capsys) -> None:
    for name in ("damage.svg", "attention.png"):
        (tmp_path / name).mkdir()
    arguments = ["doctor", str(run), "--images", "{images}", "--out", str(tmp_path)]
    more = ["--count", "1", "--mixed", "4.5", "--quiet"]
    assert main(filled([*arguments, *more], scenes)) == 0
    said = capsys.readouterr()
    assert said.err.count("could not be made") == 2
    assert json.loads((tmp_path / "doctor.json").read_text())["advice"] in said.out
    assert (tmp_path / "rules.txt").read_text().strip() in said.out


def test_mean_bits_that_cannot_be_are_refused_before_the_work(scenes, tmp_path, capsys) -> None:
    arguments = [*NO_WORK["doctor"][:-1], str(tmp_path), "--mixed", "99"]
    assert main(filled(arguments, scenes)) == 2
    assert "Mean bits are 99" in capsys.readouterr().err


DAMAGE = {
    "a folder": lambda manifest: (manifest.unlink(), manifest.mkdir()),
    "truncated": lambda manifest: manifest.write_bytes(manifest.read_bytes()[:100]),
    "rubbish": lambda manifest: manifest.write_bytes(bytes(range(256))),
    "empty": lambda manifest: manifest.write_bytes(b""),
    "a list": lambda manifest: manifest.write_text("[1, 2]"),
    "weights are a folder": lambda manifest: (
        (manifest.parent / "model.safetensors").unlink(),
        (manifest.parent / "model.safetensors").mkdir(),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("command", ["info", "predict"])
def test_an_unreadable_run_is_named(run, scenes, tmp_path, capsys, damage, command) -> None:
    shutil.copytree(run, tmp_path / "run")
    damage(tmp_path / "run" / "carsam.json")
    arguments = [command, str(tmp_path / "run")]
    if command == "predict":
        arguments += filled(NO_WORK["predict"][2:], scenes, bad=tmp_path)
    assert main(arguments) == 2
    assert str(tmp_path / "run") in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


LOSSY = ["jpg", "JPEG", "webp", "jp2", "avif", "gif", "ico", "pdf", "docx", ""]


@pytest.mark.parametrize("ending", LOSSY)
def test_a_mask_goes_to_lossless_formats_only(scenes, tmp_path, capsys, ending) -> None:
    out = tmp_path / (f"mask.{ending}" if ending else "mask")
    arguments = [*NO_WORK["predict"][:-1], str(out)]
    assert main(filled(arguments, scenes)) == 2
    said = capsys.readouterr().err
    assert "lossless" in said and ".png" in said and ".tif" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["bmp", "h5", "xbm", "docx", ""])
def test_an_overlay_that_cannot_be_saved_is_refused_before_the_work(
    scenes, tmp_path, capsys, ending
) -> None:
    arguments = filled(NO_WORK["overlay"][:-1], scenes, good=tmp_path)
    code = main([*arguments, str(tmp_path / (f"overlay.{ending}" if ending else "overlay"))])
    said = capsys.readouterr().err
    assert code == 2
    assert ("no-model" in said) if ending == "bmp" else ("overlay" in said and ".png" in said)


def test_mask_and_overlay_need_two_names(scenes, tmp_path, capsys) -> None:
    arguments = [*NO_WORK["overlay"][:-1], "{good}/mask.png"]
    assert main(filled(arguments, scenes, good=tmp_path)) == 2
    assert "different names" in capsys.readouterr().err


def test_a_mask_is_kept_to_the_bit_in_every_format_that_is_offered(run, scenes, tmp_path) -> None:
    from carsam.images.drawing import LOSSLESS

    photo = min((scenes / "images").iterdir())
    masks = []
    for ending in LOSSLESS:
        out = tmp_path / f"mask{ending}"
        arguments = ["predict", str(run), str(photo), "--box", "5,5,40,50", "--out", str(out)]
        assert main(arguments) == 0
        masks.append(np.asarray(Image.open(out)))
    assert set(np.unique(masks[0])) <= {0, 255}
    assert all(np.array_equal(mask, masks[0]) for mask in masks)

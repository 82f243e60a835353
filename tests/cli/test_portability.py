"""The command line on other systems, consoles, folders and file names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import carsam
from carsam.calibration.quantize import quantize
from carsam.cli import main
from carsam.cli.terminal import expanded
from carsam.images.scenes import write_scenes

MODULE = [sys.executable, "-m", "carsam"]
SOURCES = str(Path(carsam.__file__).parents[1])
STRANGE = "photo_é_日本.png"


def command(*arguments: str | Path, start: list[str] = MODULE, **options) -> subprocess.Popen:
    """Start the command line; what it writes is bytes."""
    variables = {**os.environ, "PYTHONPATH": SOURCES, **options.pop("variables", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*start, *map(str, arguments)], env=variables, **pipes)


def said(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """Wait for the end of a process; return what it wrote."""
    out, err = (text.decode("utf-8", "replace") for text in process.communicate(timeout=300))
    assert process.returncode == code, err
    assert "Traceback" not in err and "Exception ignored" not in err
    return out, err


def run_here(*arguments: str | Path) -> None:
    """Run the command line in this process, which has imported what is slow to import."""
    assert main([*map(str, arguments), "--quiet"]) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `model`, `scenes` and `run`."""
    from transformers import SamConfig, SamModel

    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 32, "patch_size": 8, "output_channels": 16, "window_size": 2}
    vision |= {"global_attn_indexes": [1], "num_pos_feats": 8, "initializer_range": 0.02}
    prompts = {"hidden_size": 16, "image_size": 32, "patch_size": 8}
    decoder = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 8}
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    folder = tmp_path_factory.mktemp("place")
    SamModel(config).save_pretrained(folder / "model")
    images = write_scenes(folder / "scenes", 2, seed=1, size=64).parent / "images"
    quantize(str(folder / "model"), images, "rtn", count=1).save(folder / "run")
    return folder


def photo_in(folder: Path, name: str | bytes = STRANGE) -> Path:
    path = Path(os.fsdecode(name))
    try:
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / path)
    except OSError:
        pytest.skip("this file system has no such names")
    return folder / path


def test_the_module_is_the_command() -> None:
    out, _ = said(command("--help"))
    assert "Usage: carsam COMMAND" in out
    assert "__main__" not in out


def test_messages_of_the_module_begin_with_the_programs_name() -> None:
    _, err = said(command("info", "no-such-run"), code=2)
    assert err.startswith("carsam: ") and "no-such-run" in err


WITHOUT = """
import os, sys
for name in ("resource", "fcntl", "termios", "pwd", "grp", "pty", "tty", "syslog"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "fork", "getuid", "getloadavg", "sysconf"):
    delattr(os, name) if hasattr(os, name) else None
from carsam.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("name", ["info", "predict", "embed", "quantize", "evaluate", "bench"])
def test_commands_run_without_what_only_unix_has(place, tmp_path, name) -> None:
    photo, coco = photo_in(tmp_path), place / "scenes" / "instances.json"
    arguments = {
        "info": [],
        "predict": [photo, "--box", "3,3,30,30", "--out", tmp_path / "mask.png"],
        "embed": [tmp_path, "--cache", tmp_path / "cache"],
        "quantize": [
            *("--images", tmp_path, "--out", tmp_path / "run"),
            *("--count", "1", "--recipe", "rtn"),
        ],
        "evaluate": [
            *("--coco", coco, "--images", place / "scenes" / "images"),
            *("--json", tmp_path / "result.json", "--compare", "none"),
        ],
        "bench": ["--repeats", "1"],
    }
    model = place / ("model" if name == "quantize" else "run")
    said(command(name, model, *arguments[name], start=[sys.executable, "-c", WITHOUT]))


CONSOLES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
}


@pytest.mark.parametrize("console", CONSOLES)
def test_a_console_of_few_characters_shows_the_rest_as_escapes(place, tmp_path, console) -> None:
    photo = photo_in(tmp_path)
    arguments = [place / "run", photo, "--box", "3,3,30,30", "--out", tmp_path / "mäsk_日.png"]
    out, _ = said(command("predict", *arguments, variables=CONSOLES[console]))
    assert "of the photo" in out
    assert (tmp_path / "mäsk_日.png").exists()


@pytest.mark.parametrize("console", CONSOLES)
def test_help_and_tables_fit_every_console(place, console) -> None:
    out, _ = said(command("compare", "--help", variables=CONSOLES[console]))
    assert "Usage: carsam compare" in out
    out, _ = said(command("info", place / "run", variables=CONSOLES[console]))
    assert "Weight bits" in out


@pytest.mark.parametrize("console", [None, *CONSOLES])
def test_an_error_names_a_file_of_any_name(tmp_path, console) -> None:
    name = os.fsdecode(b"broken_\xff\xe9.png")
    photo = photo_in(tmp_path, name)
    photo.write_bytes(b"no image")
    arguments = ["run", photo, "--box", "3,3,30,30", "--out", tmp_path / "mask.png"]
    _, err = said(command("predict", *arguments, variables=CONSOLES.get(console, {})), code=2)
    assert "carsam: Cannot read image" in err and "broken_" in err


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are proper text")
def test_every_command_takes_names_that_are_no_text(place, tmp_path) -> None:
    folder = tmp_path / os.fsdecode(b"folder_\xff")
    folder.mkdir()
    photo = photo_in(folder, b"photo_\xe9.png")
    run, cache = folder / "run", folder / "cache"
    options = ["--images", folder, "--out", run, "--count", "1", "--recipe", "rtn"]
    run_here("quantize", place / "model", *options)
    said(command("info", run))
    said(command("embed", run, folder, "--cache", cache, "--json-progress"))
    said(command("predict", run, photo, "--box", "3,3,30,30", "--out", folder / "mask.png"))
    run_here("bench", run, "--repeats", "1", "--markdown", folder / "table.md")
    coco = folder / "instances.json"
    image = {"id": 1, "file_name": photo.name, "height": 40, "width": 60}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 3, 30, 30], "iscrowd": 0}
    annotation |= {"segmentation": [[3, 3, 33, 3, 33, 33, 3, 33]], "area": 900}
    category = {"id": 1, "name": "thing"}
    document = {"images": [image], "annotations": [annotation], "categories": [category]}
    coco.write_text(json.dumps(document))
    where = ["--coco", coco, "--images", folder, "--json", folder / "result.json"]
    run_here("evaluate", run, *where, "--compare", "none")
    where = ["--images", folder, "--coco", coco, "--out", folder / "doctor", "--count", "1"]
    run_here("doctor", run, *where)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["info", "{run}"], ["evaluate", "--help"], ["recipes"]]
)
def test_a_reader_that_stops_early_sees_no_traceback(place, arguments) -> None:
    arguments = [argument.format(run=place / "run") for argument in arguments]
    with command(*arguments) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_error_that_nobody_reads_keeps_its_code(place) -> None:
    with command("info", "no-such-run") as process:
        process.stderr.close()
        process.stdout.read()
    assert process.returncode == 2


def test_work_goes_on_when_nobody_reads_its_progress(place, tmp_path) -> None:
    arguments = ["embed", place / "run", place / "scenes" / "images", "--cache", tmp_path]
    with command(*arguments, "--json-progress") as process:
        process.stderr.close()
        assert b"2 embeddings computed" in process.stdout.read()
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the shell is Unix's")
def test_a_program_without_a_console_runs(place, tmp_path) -> None:
    """As one that a service started, or Windows' pythonw."""
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *MODULE]
    photo = photo_in(tmp_path)
    arguments = [place / "run", photo, "--box", "3,3,30,30", "--out", tmp_path / "mask.png"]
    said(command("predict", *arguments, start=shell))
    assert (tmp_path / "mask.png").exists()


def test_commands_take_relative_paths_from_any_folder(place, tmp_path, monkeypatch) -> None:
    up = Path(os.path.relpath(place, tmp_path))
    images, coco = up / "scenes" / "images", up / "scenes" / "instances.json"
    name = min(path.name for path in (place / "scenes" / "images").iterdir())
    monkeypatch.chdir(tmp_path)
    options = ["--images", images, "--coco", coco, "--recipe", "rtn", "--out", "runs/run"]
    run_here("quantize", up / "model", *options)
    run_here("predict", "runs/run", images / name, "--box", "3,3,30,30", "--out", "mask.png")
    run_here("embed", "runs/run", images, "--cache", "cache")
    run_here("bench", "runs/run", "--repeats", "1", "--json", "results/bench.json")
    run_here("evaluate", "runs/run", "--coco", coco, "--images", images, "--json", "results/e.json")
    assert json.loads((tmp_path / "results" / "e.json").read_text())["float"] is not None
    assert json.loads((tmp_path / "results" / "bench.json").read_text())["model"] == "run"


def test_a_run_finds_its_float_model_from_another_folder(place, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    options = ["--images", "scenes/images", "--out", tmp_path / "run", "--recipe", "rtn"]
    run_here("quantize", "model", *options)
    monkeypatch.chdir(tmp_path)
    where = ["--coco", place / "scenes" / "instances.json", "--images", place / "scenes" / "images"]
    run_here("evaluate", "run", *where, "--json", "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["float"] is not None


@pytest.mark.slow
def test_a_comparison_goes_on_from_another_folder(place, tmp_path, monkeypatch) -> None:
    options = ["--recipes", "rtn", "--bits", "w8a8", "--seeds", "1", "--count", "1"]
    where = ["--coco", "scenes/instances.json", "--images", "scenes/images"]
    calibration = photo_in(tmp_path).parent
    first = ["model", *where, "--calibration", calibration, "--out", tmp_path / "table"]
    monkeypatch.chdir(place)
    run_here("compare", *first, *options)
    result = tmp_path / "table" / "cells" / "rtn-w8a8-seed0.result.json"
    before = result.stat().st_mtime_ns
    up = Path(os.path.relpath(place, tmp_path))
    where = ["--coco", up / where[1], "--images", up / where[3]]
    second = [up / "model", *where, "--calibration", ".", "--out", "table"]
    monkeypatch.chdir(tmp_path)
    run_here("compare", *second, *options)
    assert result.stat().st_mtime_ns == before


def test_files_of_the_current_folder_are_no_modules_of_a_worker(place, tmp_path) -> None:
    for name in ("json.py", "numpy.py", "carsam.py"):
        (tmp_path / name).write_text("raise ImportError('the wrong file')\n")
    start = [sys.executable, "-P", "-m", "carsam"]
    said(command("bench", place / "run", "--repeats", "1", "--quiet", start=start, cwd=tmp_path))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("~/run", "{home}/run"),
        ("--out=~/run", "--out={home}/run"),
        ("~", "{home}"),
        ("run~", "run~"),
        ("a=~/b", "a=~/b"),
        ("--box=1,2,3,4", "--box=1,2,3,4"),
    ],
)
def test_the_home_folder(argument: str, expected: str, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("USERPROFILE", "/home/someone")
    assert expanded(argument) == expected.format(home="/home/someone")


def test_the_home_folder_is_found_in_every_option(place, tmp_path) -> None:
    photo = photo_in(tmp_path)
    variables = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CARSAM_CACHE": "~/cache"}
    arguments = [place / "run", f"~/{photo.name}", "--box", "3,3,30,30", "--out=~/mask.png"]
    said(command("predict", *arguments, variables=variables))
    assert (tmp_path / "mask.png").exists() and (tmp_path / "cache").is_dir()

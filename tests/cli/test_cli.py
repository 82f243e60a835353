"""The command line: what it writes, what it refuses, its exit codes."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from without_torch import run_without_torch

from carsam.cli import main
from carsam.cli.options import Common, parse_box, parse_gigabytes, parse_point
from carsam.errors import UserError
from carsam.formats.checkpoint import read_checkpoint, update_manifest
from carsam.formats.manifest import read_manifest
from carsam.runtime import kernels
from carsam.threads import set_threads

RUN_CLI = "import sys\nfrom carsam.cli import main\nsys.exit(main(sys.argv[1:]))"


def quantize_options(
    scenes: Path, out: Path, progress: str = "--quiet", recipe: str = "rtn"
) -> list[str]:
    quick = ["weights=minmax", "activations=minmax"]
    settings = [part for choice in quick for part in ("--set", f"round-to-nearest.{choice}")]
    options = ["--images", str(scenes / "images"), "--out", str(out), "--recipe", recipe]
    return [*options, *settings, progress]


def photo_of(scenes: Path) -> str:
    return str(min((scenes / "images").iterdir()))


def test_evaluate_writes_the_numbers_of_both_models(run, scenes, tmp_path, capsys) -> None:
    result = tmp_path / "result.json"
    where = ["--coco", str(scenes / "instances.json"), "--images", str(scenes / "images")]
    assert main(["evaluate", str(run), *where, "--json", str(result), "--quiet"]) == 0
    document = json.loads(result.read_text())
    assert document["mode"] == "native" and document["float"]["mode"] == "float"
    assert document["images"] == 3
    assert "mask IoU with float" in capsys.readouterr().out


def test_a_run_of_another_size_is_compared_at_that_size(model, scenes, tmp_path) -> None:
    run, result = tmp_path / "run", tmp_path / "result.json"
    assert main(["quantize", model, *quantize_options(scenes, run), "--image-size", "48"]) == 0
    where = ["--coco", str(scenes / "instances.json"), "--images", str(scenes / "images")]
    output = ["--json", str(result), "--quiet"]
    sizes = []
    for options in ([str(run)], [model, "--image-size", "40", "--compare", model]):
        assert main(["evaluate", *options, *where, *output]) == 0
        document = json.loads(result.read_text())
        sizes.append((document["image_size"], document["float"]["image_size"]))
    assert sizes == [(48, 48), (40, 32)]


def test_an_image_size_that_does_not_fit_is_refused(model, run, scenes, tmp_path, capsys) -> None:
    output = ["--box", "1,2,30,40", "--out", str(tmp_path / "mask.png"), "--image-size", "60"]
    assert main(["predict", model, photo_of(scenes), *output]) == 2
    assert "60 pixels; expected, for this model, a multiple of 8" in capsys.readouterr().err
    assert main(["predict", str(run), photo_of(scenes), *output]) == 2
    assert "is quantized for inputs of one size" in capsys.readouterr().err
    assert not (tmp_path / "mask.png").exists()


def test_evaluate_records_its_numbers_when_asked(run, scenes, tmp_path, capsys) -> None:
    where = ["--coco", str(scenes / "instances.json"), "--images", str(scenes / "images")]
    output = ["--json", str(tmp_path / "result.json"), "--quiet"]
    assert main(["evaluate", str(run), *where, *output, "--compare", "none", "--record"]) == 0
    capsys.readouterr()
    assert main(["info", str(run)]) == 0
    assert "instances.boxes.mean_iou: 0." in capsys.readouterr().out


def test_a_float_model_has_no_place_for_recorded_numbers(model, scenes, tmp_path, capsys) -> None:
    where = ["--coco", str(scenes / "instances.json"), "--images", str(scenes / "images")]
    output = ["--json", str(tmp_path / "result.json"), "--record"]
    assert main(["evaluate", model, *where, *output]) == 2
    assert "--record has no place" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["quantize", "--images", "{images}", "--out", "{out}"],
        ["compare", "--images", "{images}", "--coco", "{coco}", "--out", "{out}"],
    ],
)
def test_a_run_is_refused_where_a_float_model_belongs(
    run, scenes, tmp_path, capsys, command
) -> None:
    places = {
        "images": scenes / "images",
        "coco": scenes / "instances.json",
        "out": tmp_path / "out",
    }
    name, *options = (part.format(**places) for part in command)
    assert main([name, str(run), *options]) == 2
    assert "is a run of `carsam quantize`" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["folder", "bundled"])
@pytest.mark.parametrize("command", ["info", "bench", "doctor"])
def test_a_float_model_is_refused_where_a_run_belongs(
    model, scenes, tmp_path, capsys, command, source
) -> None:
    given = model if source == "folder" else "sam-mini"
    options = ["--images", str(scenes / "images"), "--out", str(tmp_path / "out")]
    assert main([command, given, *(options if command == "doctor" else [])]) == 2
    assert "float model" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "prompt", [["--box", "5,5,40,50"], ["--point", "20,20"], ["--point", "9,9", "--point", "5,5,0"]]
)
def test_predict_writes_a_mask_as_large_as_the_photo(run, scenes, tmp_path, prompt) -> None:
    outputs = ["--out", str(tmp_path / "mask.png"), "--overlay", str(tmp_path / "overlay.jpg")]
    assert main(["predict", str(run), photo_of(scenes), *prompt, *outputs]) == 0
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 255}
    assert Image.open(tmp_path / "overlay.jpg").size == (64, 64)


def test_predict_does_not_overwrite_the_photo(run, scenes, capsys) -> None:
    photo = photo_of(scenes)
    before = Path(photo).read_bytes()
    assert main(["predict", str(run), photo, "--box", "5,5,40,50", "--out", photo]) == 2
    assert Path(photo).read_bytes() == before


def test_predict_needs_a_prompt(run, scenes, tmp_path, capsys) -> None:
    assert main(["predict", str(run), photo_of(scenes), "--out", str(tmp_path / "mask.png")]) == 2
    assert "--box" in capsys.readouterr().err


def test_info_states_origin_bits_size_and_calibration(run, model, capsys) -> None:
    assert main(["info", str(run)]) == 0
    said = capsys.readouterr().out
    for expected in (model, "rtn w4a4", "MB on disk", "3 images", "encoder.qkv", "torch"):
        assert expected in said


def test_a_reader_that_stops_early_is_no_error(run) -> None:
    command = [sys.executable, "-c", RUN_CLI, "info", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_info_check_proves_the_run_strict(run, capsys) -> None:
    assert main(["info", str(run), "--check"]) == 0
    assert "Strict check passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bits": "w8a8"}, "has a grid of 4 bits, but the recipe says 8 bits"),
        ({"rules": ["decoder.mlp=w4a32"]}, "but the recipe leaves it in float"),
        ({"rules": ["decoder.iou_head=w4a4"]}, "is in float, but the recipe says 4 bits"),
    ],
)
def test_info_check_finds_a_run_that_is_not_what_its_recipe_says(
    run, tmp_path, changes, said
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    recipe = read_manifest(other / "carsam.json")["recipe"]
    update_manifest(other, {"recipe": {**recipe, **changes}})
    with pytest.raises(SystemExit) as ended:  # a message as code: printed, and the code is 1
        main(["info", str(other), "--check"])
    assert str(ended.value).startswith("carsam: The strict check failed: ")
    assert said in str(ended.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.pop("recipe"), "lacks recipe"),
        (lambda manifest: manifest["recipe"].pop("bits"), "recipe is damaged (KeyError: 'bits')"),
        (lambda manifest: manifest["recipe"].update(bits=4), "recipe is damaged"),
        (lambda manifest: manifest["recipe"].update(bits="w9a9"), "9 bits for weights"),
    ],
)
def test_info_names_what_a_manifest_does_not_say(run, tmp_path, capsys, change, said) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    manifest = json.loads((other / "carsam.json").read_text())
    change(manifest)
    (other / "carsam.json").write_text(json.dumps(manifest))
    assert main(["info", str(other), "--check"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["info", "{run}"], ["predict", "{run}", "{photo}", "--box", "1,1,40,40", "--out", "{out}"]],
)
def test_a_run_is_used_without_torch(run, scenes, tmp_path, arguments) -> None:
    places = {"run": run, "photo": photo_of(scenes), "out": tmp_path / "mask.png"}
    arguments = [argument.format(**places) for argument in arguments]
    result = run_without_torch(RUN_CLI, *arguments)
    assert result.returncode == 0, result.stderr


def test_a_missing_extra_is_named(scenes, tmp_path) -> None:
    options = quantize_options(scenes, tmp_path / "run")
    result = run_without_torch(RUN_CLI, "quantize", "sam-mini", *options)
    assert result.returncode == 2
    assert "pip install 'carsam[quantize]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_existing_output_folder_is_refused_before_any_work(run, scenes, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    assert main(["quantize", "no-such-model", *quantize_options(scenes, run)]) == 2
    assert "--force" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_force_replaces_an_earlier_run(model, scenes, tmp_path) -> None:
    options = quantize_options(scenes, tmp_path / "run")
    assert main(["quantize", model, *options, "--bits", "w8a8"]) == 0
    assert main(["quantize", model, *options, "--force"]) == 0
    manifest = json.loads((tmp_path / "run" / "carsam.json").read_text())
    assert manifest["recipe"]["bits"] == "w4a4"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--bits", "w1a4"], "1 bits"),
        (["--rule", "decoder.nothing=w8a8"], "decoder.nothing"),
        (["--set", "round-to-nearest.speed=9"], "speed"),
        (["--count", "9", "--exact"], "asked for 9"),
        (["--threads", "0"], "--threads 0"),
    ],
)
def test_wrong_input_to_quantize_writes_nothing(
    model, scenes, tmp_path, capsys, change, complaint
) -> None:
    (tmp_path / "empty").mkdir()
    change = [part.format(tmp=tmp_path) for part in change]
    options = quantize_options(scenes, tmp_path / "run")
    assert main(["quantize", model, *options, *change]) == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert complaint in last_line and last_line.startswith("carsam: ")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_best_recipe_is_taken_unless_another_is_named(model, scenes, tmp_path) -> None:
    options = ["--images", str(scenes / "images"), "--count", "1", "--set", "polish.steps=1"]
    assert main(["quantize", model, *options, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert read_checkpoint(tmp_path / "run").manifest["recipe"]["name"] == "carsam-plus"


def test_an_unknown_recipe_is_named(model, scenes, tmp_path, capsys) -> None:
    options = quantize_options(scenes, tmp_path / "run", recipe="magic")
    assert main(["quantize", model, *options]) == 2
    assert "magic" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("folder", "complaint"), [("missing", "does not exist"), (".", "no image")]
)
def test_a_folder_without_images_is_refused(tmp_path, capsys, folder, complaint) -> None:
    arguments = ["--images", str(tmp_path / folder), "--out", str(tmp_path / "run")]
    assert main(["quantize", "sam-mini", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["export"], "RUN"), (["export", "run", "--onnx"], "--onnx"), (["evaluate", "run"], "--json")],
)
def test_what_is_missing_is_named(arguments, name, capsys) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said == f"carsam: Found no value for {name}; see `carsam {arguments[0]} --help`.\n"


def test_an_unknown_option_ends_with_code_2(capsys) -> None:
    assert main(["info", "run", "--colour"]) == 2
    assert capsys.readouterr().err.startswith("carsam: ")


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_an_interrupt_leaves_whole_units_only(model, scenes, tmp_path, sent, code, word) -> None:
    options = quantize_options(scenes, tmp_path / "run", "--json-progress", "qdrop")
    options += ["--set", "reconstruct.steps=1000000"]
    command = [sys.executable, "-c", RUN_CLI, "quantize", model, *options]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # a test run in the background inherits that they are ignored
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "layers.0" in line and "Quantizing" in line:  # the unit before it is kept
                process.send_signal(sent)
                break
        said = process.stderr.read()
    assert process.returncode == code
    assert word in said and "Traceback" not in said
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".units"
    assert {file.name for file in kept.iterdir()} == {"identity.json", "unit-000.safetensors"}


def test_quiet_and_json_progress_exclude_each_other(model, scenes, tmp_path, capsys) -> None:
    options = quantize_options(scenes, tmp_path / "run")
    assert main(["quantize", model, *options, "--json-progress"]) == 2
    assert "choose one" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "a,b,c,d", ""])
def test_a_box_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="x0,y0,x1,y1"):
        parse_box(text)


def test_points_carry_labels() -> None:
    assert parse_point("3,4.5") == (3, 4.5, 1)
    assert parse_point("3,4,0") == (3, 4, 0)
    with pytest.raises(UserError, match="x,y"):
        parse_point("3,4,7")


@pytest.fixture
def restored_threads(monkeypatch):
    """Restores what `--threads` changes."""
    import threadpoolctl
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    with threadpoolctl.threadpool_limits():
        yield
    set_threads(1)
    torch.set_num_threads(before)


def test_threads_reach_torch_numpy_and_the_kernels(restored_threads) -> None:
    import threadpoolctl
    import torch

    for count in (3, 1):
        Common(threads=count).prepare()
        assert (torch.get_num_threads(), kernels.threads()) == (count, count)
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {count}


@pytest.mark.parametrize("count", [1, 3])
def test_every_command_computes_with_the_threads_asked_for(
    run, scenes, tmp_path, restored_threads, count, capsys
) -> None:
    photos, photo = str(scenes / "images"), photo_of(scenes)
    coco = ["--coco", str(scenes / "instances.json"), "--images", photos]
    result, table = tmp_path / "result.json", tmp_path / "bench.json"
    commands = (
        ["predict", str(run), photo, "--box", "5,5,40,50", "--out", str(tmp_path / "mask.png")],
        ["embed", str(run), photos, "--cache", str(tmp_path / "cache")],
        ["info", str(run), "--check"],
        ["evaluate", str(run), *coco, "--json", str(result), "--compare", "none"],
        ["doctor", str(run), "--images", photos, "--out", str(tmp_path / "doctor"), "--count", "1"],
        ["bench", str(run), "--repeats", "1", "--json", str(table)],
    )
    for command in commands:
        set_threads(2)
        assert main([*command, "--threads", str(count), "--quiet"]) == 0
        assert kernels.threads() == count, command
    assert json.loads(result.read_text())["threads"] == count
    document = json.loads(table.read_text())
    assert (document["threads"], document["engines"][0]["threads"]) == (count, count)


def test_a_result_says_what_it_was_computed_with_by_default(
    run, scenes, tmp_path, restored_threads, monkeypatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = tmp_path / "result.json"
    coco = ["--coco", str(scenes / "instances.json"), "--images", str(scenes / "images")]
    assert main(["evaluate", str(run), *coco, "--json", str(result), "--quiet"]) == 0
    assert json.loads(result.read_text())["threads"] == 1


@pytest.mark.parametrize(("text", "gigabytes"), [("4GB", 4), ("500MB", 0.5), ("1.5 gb", 1.5)])
def test_memory_is_written_with_its_unit(text, gigabytes):
    assert parse_gigabytes(text) == gigabytes


@pytest.mark.parametrize("text", ["", "much", "-1GB", "4TB"])
def test_memory_that_is_not_understood(text):
    with pytest.raises(ValueError, match="write for example 4GB"):
        parse_gigabytes(text)

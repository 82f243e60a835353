"""`carsam export RUN --onnx DIR`: what is written, what is said, and what is refused."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_runs import QuantizedPair, codebook, with_grids
from without_torch import run_without_torch

from carsam.cli import main
from carsam.formats.checkpoint import write_checkpoint

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from carsam.export.onnx import check  # noqa: E402

FILES = {"encoder.onnx", "encoder_hwc.onnx", "decoder.onnx", "decoder_hwc.onnx"}


@pytest.fixture
def pair(quantized_pair) -> QuantizedPair:
    return quantized_pair(lambda path: 4, lambda *_: 4)


@pytest.fixture
def run(pair: QuantizedPair, tmp_path: Path) -> Path:
    return written(pair.checkpoint, tmp_path / "run")


def written(checkpoint, folder: Path) -> Path:
    write_checkpoint(folder, checkpoint.manifest, checkpoint.tensors)
    return folder


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments), "--count", "1", "--quiet"])


def assert_refused(capsys, folder: Path, *arguments: object) -> str:
    """The command ends with one sentence, and leaves nothing beside what was there."""
    before = sorted(path.name for path in folder.parent.iterdir())
    assert main(["export", *map(str, arguments), "--quiet"]) == 2
    assert sorted(path.name for path in folder.parent.iterdir()) == before
    message: str = capsys.readouterr().err
    return message


def test_writes_models_and_a_report(run, tmp_path, capsys) -> None:
    out = tmp_path / "onnx"
    assert export(run, "--onnx", out) == 0
    assert {path.name for path in out.iterdir()} == FILES | {"config.yaml", "export.json"}
    report = json.loads((out / "export.json").read_text())
    for name in FILES:
        content = (out / name).read_bytes()
        assert report["files"][name]["sha256"] == hashlib.sha256(content).hexdigest()
        model = onnx.load_from_string(content)
        properties = {each.key: each.value for each in model.metadata_props}
        assert properties["carsam.fingerprint"] == report["fingerprint"]
        assert properties["carsam.exact"] == "true"
    comparison = report["comparison"]
    assert comparison["equal_blocks"] == comparison["blocks"] == 5  # patches, 3 blocks, neck
    assert comparison["equal_images"] == comparison["images"] == 1
    assert comparison["overlap"][0] > 0.99
    said = capsys.readouterr().out
    assert "same bits of the embedding: 1 of 1 images" in said
    assert "Masks are other ones" not in said


def test_annotation_programs_get_a_configuration(run, tmp_path) -> None:
    out = tmp_path / "onnx"
    assert export(run, "--onnx", out) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["type"] == "segment_anything"
    assert (config["encoder_model_path"], config["decoder_model_path"]) == (
        "encoder_hwc.onnx",
        "decoder_hwc.onnx",
    )


def test_a_model_of_the_usual_input_needs_one_decoder(usual_export) -> None:
    names = {path.name for path in usual_export.glob("*.onnx")}
    assert names == FILES - {"decoder_hwc.onnx"}
    config = yaml.safe_load((usual_export / "config.yaml").read_text())
    assert config["decoder_model_path"] == "decoder.onnx"
    decoder = onnx.load(usual_export / "decoder.onnx")
    mask = next(tensor for tensor in decoder.graph.input if tensor.name == "mask_input")
    assert [side.dim_value for side in mask.type.tensor_type.shape.dim] == [1, 1, 256, 256]


def test_photos_can_be_given_to_compare_on(run, tmp_path, capsys) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    arguments = ("--onnx", tmp_path / "onnx", "--images", photos, "--quiet")
    assert main(["export", str(run), *map(str, arguments)]) == 0
    assert "on 3 images, 27 points" in capsys.readouterr().out


def test_force_replaces_an_export_and_nothing_else(run, tmp_path, capsys) -> None:
    out = tmp_path / "onnx"
    assert export(run, "--onnx", out) == 0
    assert "exists already" in assert_refused(capsys, out, run, "--onnx", out)
    assert export(run, "--onnx", out, "--fast", "--force") == 0
    assert json.loads((out / "export.json").read_text())["exact"] is False
    message = assert_refused(capsys, out, run, "--onnx", run, "--force")
    assert "is not an ONNX export" in message
    assert (run / "carsam.json").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "Found nothing to write; give --onnx DIR"),
        (["--onnx", "OUT", "--count", "0"], "expected at least 1 image"),
        (["--onnx", "OUT", "--images", "nowhere"], "nowhere"),
        (["--onnx", "OUT/run/carsam.json/x"], "is a file"),
    ],
)
def test_wrong_options_get_a_sentence(run, tmp_path, capsys, options, message) -> None:
    out = tmp_path / "onnx"
    given = [each.replace("OUT/run", str(run)).replace("OUT", str(out)) for each in options]
    assert message in assert_refused(capsys, out, run, *given)


def test_a_float_model_is_refused(tmp_path, capsys) -> None:
    message = assert_refused(capsys, tmp_path / "x", "sam-mini", "--onnx", tmp_path / "x")
    assert "not a run" in message


def test_sam_2_is_refused_with_a_sentence(pair, tmp_path, capsys) -> None:
    pair.checkpoint.manifest["family"] = "sam2"
    run = written(pair.checkpoint, tmp_path / "run")
    message = assert_refused(capsys, tmp_path / "x", run, "--onnx", tmp_path / "x")
    assert "cannot be written as ONNX" in message and "family sam2" in message


def test_a_grid_without_a_form_is_refused_by_name(pair, tmp_path, capsys) -> None:
    def replaced(site, operand, grid):
        return codebook(grid, 4) if operand == "probabilities" else None

    _, checkpoint = with_grids(pair, replaced)
    run = written(checkpoint, tmp_path / "run")
    message = assert_refused(capsys, tmp_path / "x", run, "--onnx", tmp_path / "x")
    assert "no codebook grid for the probabilities of vision_encoder.layers.0.attn" in message
    assert "--engine" not in message


def test_models_that_compute_something_else_are_not_written(
    run, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(check, "MOST_DIFFERENCE", -1.0)
    message = assert_refused(capsys, tmp_path / "x", run, "--onnx", tmp_path / "x", "--count", 1)
    assert "does not compute what carsam does" in message
    assert "Nothing was written" in message


def test_a_full_disk_leaves_nothing(run, tmp_path, capsys, limited_files) -> None:
    with limited_files(100_000):
        message = assert_refused(capsys, tmp_path / "x", run, "--onnx", tmp_path / "x")
    assert "No space left" in message


def test_needs_its_extra() -> None:
    program = (
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "from carsam.cli import main\n"
        "sys.exit(main(['export', 'sam-mini-w4a4', '--onnx', 'out']))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 2
    assert "pip install 'carsam[onnx]'" in found.stderr


def test_the_bundled_run_has_carsam_s_bits(tmp_path) -> None:
    """Codebooks and row-maximum softmax at full size, with neither torch nor transformers."""
    out = tmp_path / "onnx"
    program = "import sys\nfrom carsam.cli import main\nsys.exit(main(sys.argv[1:]))"
    found = run_without_torch(
        program, "export", "sam-mini-w4a4", "--onnx", str(out), "--count", "1"
    )
    assert found.returncode == 0, found.stderr
    comparison = json.loads((out / "export.json").read_text())["comparison"]
    assert comparison["equal_blocks"] == comparison["blocks"] == 10
    assert comparison["equal_images"] == 1
    assert (out / "encoder.onnx").stat().st_size < 5e6

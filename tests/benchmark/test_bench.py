"""`carsam bench`: its json, its table, what it refuses."""

import json
import shutil

import pytest
from without_torch import run_without_torch

from carsam.cli import main
from carsam.runtime import kernels

KEYS = {"load_seconds", "encode_seconds", "decode_seconds", "decode_64_seconds", "peak_mb"}


@pytest.fixture
def bench(run, tmp_path):
    """Function that measures with the options given and returns the result."""

    def bench(*options: str) -> dict:
        result = tmp_path / "result.json"
        always = ["--repeats", "1", "--threads", "1", "--peers", str(tmp_path / "peers"), "--quiet"]
        assert main(["bench", str(run), *options, *always, "--json", str(result)]) == 0
        return json.loads(result.read_text())

    return bench


@pytest.mark.slow
def test_engines_are_measured_each_in_its_process(bench, tmp_path, capsys):
    table = tmp_path / "table.md"
    document = bench("--engine", "native,simulated,float", "--markdown", str(table))
    rows = document["engines"]
    assert [row["engine"] for row in rows] == ["native", "simulated", "float"]
    assert all(row[key] > 0 for row in rows for key in KEYS)
    assert rows[0]["peak_mb"] < rows[1]["peak_mb"]  # no torch in it
    assert rows[0]["spread"]["decode"]["calls"]
    assert (rows[0]["bits"], document["threads"], document["rounds"]) == ("w4a4", 1, 1)
    assert {"numpy", "torch", "transformers"} <= document["versions"].keys()
    assert table.read_text() == capsys.readouterr().out
    assert len([line for line in table.read_text().splitlines() if line.startswith("| ")]) == 4


def test_native_has_a_row_for_each_model_and_instruction_set(bench, run):
    other = shutil.copytree(run, run.with_name("other"))
    best = kernels.instruction_set()
    rows = bench("--isa", f"portable,{best}", "--also", str(other))["engines"]
    names = ["native", f"native:{best}", "native:other", f"native:other:{best}"]
    assert [row["engine"] for row in rows] == names
    assert [row["instruction_set"] for row in rows] == ["portable", best, "portable", best]


def test_other_runtimes_need_the_extra(run):
    code = "import sys\nfrom carsam.cli import main\nsys.exit(main(sys.argv[1:]))"
    result = run_without_torch(code, "bench", str(run), "--against", "onnxruntime", "--quiet")
    assert result.returncode == 2
    assert "pip install 'carsam[bench]'" in result.stderr


def test_an_instruction_set_that_is_not_there_is_refused(run, capsys):
    assert main(["bench", str(run), "--isa", "mmx", "--quiet"]) == 2
    assert "native cannot load: its process ended" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "magic"], "Engine magic is not known; expected native, simulated"),
        (["--engine", ","], "Found no engine"),
        (["--repeats", "0"], "Found --repeats 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message, capsys):
    assert main(["bench", "run", *options, "--quiet"]) == 2
    assert message in capsys.readouterr().err

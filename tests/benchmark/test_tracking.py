"""Tracking as `carsam bench` measures it: what is followed, and the rows of the result."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from carsam.benchmark.contenders import Contender
from carsam.benchmark.measure import Record
from carsam.benchmark.result import markdown, to_json
from carsam.benchmark.tracking import FIRST, session, transformers_session
from carsam.cli import main
from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.families import load_model
from carsam.formats.checkpoint import write_checkpoint
from carsam.images.preprocess import Framing


@pytest.fixture
def tiny_run(quantized_sam2_video, tmp_path):
    """Folder of a quantized model with a memory."""
    checkpoint = quantized_sam2_video(lambda path: 4, lambda *_: 4).checkpoint
    recipe = {"name": "rtn", "bits": "w4a4"}
    manifest = {**checkpoint.manifest, "recipe": recipe}
    write_checkpoint(tmp_path / "run", manifest, checkpoint.tensors)
    return tmp_path / "run"


@pytest.mark.parametrize(("objects", "memories"), [(1, None), (3, 2)])
def test_every_frame_recalls_all_there_is_to_recall(tiny_sam2_video, objects, memories):
    engine = TorchVideoEngine(*load_model(tiny_sam2_video), "float")
    recalled = []
    recall = engine.recall

    def watched(embedding, memory):
        if memory is not None:
            recalled.append(memory.cells)
        return recall(embedding, memory)

    engine.recall = watched
    steps = session(engine, objects, memories)
    next(steps), next(steps)
    assert len(recalled) == 2 * objects
    numbers = engine.memory
    frames = numbers.frames if memories is None else 1 + memories
    for cells in recalled:
        assert np.count_nonzero(cells >= 0) == frames * 8 * 8
        assert np.count_nonzero(cells < 0) == numbers.pointers


def test_transformers_session_is_given_a_memory_of_every_frame():
    class Model:
        def __init__(self):
            self.followed = []

        def __call__(self, followed, frame, frame_idx=None):
            for number, outputs in followed.output_dict_per_obj.items():
                if frame_idx is None:
                    assert followed.point_inputs_per_obj[number][0]["point_coords"].shape[-1] == 2
                    outputs["cond_frame_outputs"][0] = {"object_pointer": number}
                else:
                    self.followed.append((frame_idx, number, outputs["non_cond_frame_outputs"]))

    model = Model()
    engine = SimpleNamespace(module=model, framing=Framing(64, stretched=True))
    steps = transformers_session(engine, 2, None)
    next(steps), next(steps)
    assert [(frame, number) for frame, number, _ in model.followed] == [
        (frame, number) for frame in (FIRST, FIRST + 1) for number in (0, 1)
    ]
    for _, number, memories in model.followed:
        assert sorted(memories) == list(range(1, FIRST))
        assert {memory["object_pointer"] for memory in memories.values()} == {number}


def test_native_gets_a_row_for_every_number_of_memories(tiny_run, tmp_path, capsys):
    result = tmp_path / "result.json"
    options = ["--repeats", "1", "--threads", "1", "--quiet", "--memory-frames", "1"]
    assert main(["bench", str(tiny_run), *options, "--json", str(result)]) == 0
    document = json.loads(result.read_text())
    names = [row["engine"] for row in document["engines"]]
    assert names == ["native", "native:1-memories"]
    for row in document["engines"]:
        keys = ("encode", "decode", "track", "track_4")
        assert all(row[f"{key}_seconds"] > 0 for key in keys)
        assert row["peak_track_mb"] >= row["peak_mb"] > 0
    assert "frame, 4 objects s" in capsys.readouterr().out


def test_memories_are_numbers_and_of_models_that_have_them(tiny_run, capsys):
    assert main(["bench", str(tiny_run), "--memory-frames", "few", "--quiet"]) == 2
    assert "Found --memory-frames few; expected numbers" in capsys.readouterr().err


def test_who_cannot_track_has_empty_cells():
    def record(name: str, tracks: bool) -> Record:
        found = Record(Contender(name, name, None))
        for phase, seconds in {"load": 1, "encode": 2, "decode": 0.5}.items():
            found.seconds[phase] = [seconds]
        if tracks:
            found.seconds |= {"track": [3.0], "track_4": [9.0]}
        found.peak_mb = dict.fromkeys(found.seconds, 100.0)
        return found

    entries = to_json([record("native", True), record("openvino", False)])
    assert entries[0]["object_seconds"] == 2.0
    machine = {"processor": "some", "processors": 2}
    document = {"engines": entries, "machine": machine, "threads": 1, "rounds": 1}
    lines = markdown({**document, "versions": {}, "command": "carsam bench"}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0].index("frame, 1 object s") == 6
    assert cells[2][6:12] == [
        "3.00 (3.00 - 3.00)",
        "1.00 x",
        "9.00 (9.00 - 9.00)",
        "1.00 x",
        *["2.00", "1.00 x"],
    ]
    assert cells[3][6:12] == [""] * 6
    assert {len(row) for row in cells} == {14}

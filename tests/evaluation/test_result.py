import json

import pytest

from carsam.errors import UserError
from carsam.evaluation.evaluate import evaluate


@pytest.fixture
def result(coco_json, box_engine, tmp_path):
    return evaluate(
        box_engine("simulated"),
        coco_json(),
        tmp_path,
        float_engine=box_engine(),
        model="sam-mini w4a4",
        bootstrap=10,
    )


def test_keys(result):
    assert list(result.to_json()) == [
        "format",
        "version",
        "model",
        "prompts",
        "score",
        "images",
        "instances",
        "ids_sha256",
        "bootstrap",
        "seconds",
        "threads",
        "peak_memory_mb",
        "versions",
        "warnings",
        "float",
        "agreement",
        "engine",
        "mode",
        "image_size",
        "coco",
        "mean_iou",
        "mean_iou_by_size",
        "mean_best_iou",
        "intervals",
        "engine_seconds",
    ]


def test_values_that_name_the_run(result):
    document = result.to_json()
    assert document["mode"] == "simulated"
    assert document["engine"] == "BoxEngine"
    assert document["model"] == "sam-mini w4a4"
    assert document["float"]["mode"] == "float"
    assert document["score"] == "predicted-iou"


def test_sizes_without_objects_are_null(result):
    assert result.to_json()["coco"]["APl"] is None


def test_saved_json_is_the_result(result, tmp_path):
    result.save(tmp_path / "runs" / "result.json")
    saved = json.loads((tmp_path / "runs" / "result.json").read_text())
    assert saved == json.loads(json.dumps(result.to_json()))


def test_failed_save_leaves_the_old_file_and_nothing_else(result, tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "result.json").write_text("old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="No space left on device"):
        result.save(folder / "result.json")
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    assert (folder / "result.json").read_text() == "old"


def test_folder_that_is_a_file_is_refused(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        result.save(tmp_path / "file" / "result.json")

import hashlib
import json
import warnings

import numpy as np
import pytest
from listening import Listener
from PIL import Image

from carsam.errors import UserError
from carsam.evaluation.evaluate import evaluate
from carsam.evaluation.prompts import PROMPT_KINDS


@pytest.fixture
def run(coco_json, box_engine, tmp_path):
    """Function that evaluates a box engine on small data: (change of the json) -> result."""

    def run(change=None, engine=None, **options):
        path = coco_json(change)
        options = {"bootstrap": 20, "progress": Listener(), **options}
        return evaluate(engine or box_engine(), path, tmp_path, **options)

    return run


@pytest.fixture
def detections(coco_json, tmp_path):
    """A detector's results: the ground-truth boxes, with score 0.5."""
    path = tmp_path / "detections.json"
    annotations = json.loads(coco_json().read_text())["annotations"]
    keys = ("image_id", "category_id", "bbox")
    results = [{key: item[key] for key in keys} | {"score": 0.5} for item in annotations]
    path.write_text(json.dumps(results))
    return path


def hash_of(*ids):
    """The hash of image ids and annotation ids, as docs/evaluation.md says it."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def test_true_masks_have_ap_and_mean_iou_one(run):
    result = run()
    assert result.accuracy.coco["AP"] == 1.0
    assert result.accuracy.mean_iou == 1.0
    assert result.accuracy.intervals == {"AP": [1.0, 1.0], "mean_iou": [1.0, 1.0]}


def test_mean_iou_is_that_of_the_masks(run, box_engine, coco_json):
    documents = []
    result = run(documents.append, engine=box_engine(shrink=1))
    boxes = [annotation["bbox"] for annotation in documents[0]["annotations"]]
    expected = np.mean([(w - 2) * (h - 2) / (w * h) for _, _, w, h in boxes])
    assert result.accuracy.mean_iou == pytest.approx(expected)


def test_evaluating_twice_gives_the_same_numbers(run, box_engine):
    first, second = (run(engine=box_engine(shrink=2)).accuracy for _ in range(2))
    assert first.coco == second.coco
    assert first.intervals == second.intervals


def test_chunks_change_nothing(run, box_engine):
    all_at_once, one_by_one = (run(engine=box_engine(shrink=2), chunk=n) for n in (100, 1))
    assert all_at_once.accuracy.coco == one_by_one.accuracy.coco


def test_click_uses_the_mask_of_highest_predicted_iou_and_reports_the_best(run):
    accuracy = run(prompts="clicks").accuracy
    assert 0 < accuracy.mean_iou < accuracy.mean_best_iou < 1


def test_float_engine_of_the_same_arithmetic_agrees_fully(run, box_engine):
    result = run(engine=box_engine("native"), float_engine=box_engine("float"))
    assert (result.accuracy.mode, result.float_accuracy.mode) == ("native", "float")
    assert result.comparison.mask_iou == 1
    assert result.comparison.rank_correlation == pytest.approx(1)
    assert result.comparison.difference == {"AP": 0, "mean_iou": 0}
    assert result.comparison.intervals["AP"] == [0, 0]


def test_worse_engine_has_a_negative_difference(run, box_engine):
    result = run(engine=box_engine("native", shrink=2), float_engine=box_engine())
    assert result.comparison.difference["AP"] < 0
    assert result.comparison.mask_iou == pytest.approx(result.accuracy.mean_iou)


def test_no_resamples_have_no_intervals(run):
    assert run(bootstrap=0).accuracy.intervals == {"AP": None, "mean_iou": None}


def test_limit_takes_the_first_images_by_file_name(run):
    result = run(lambda document: document["images"].reverse(), limit=1)
    assert result.instances == 6
    assert result.ids_sha256 == hash_of([10], [1, 2, 3, 4, 5, 6])


def test_the_order_of_detections_changes_nothing(run, detections):
    def evaluated():
        result = run(prompts="detections", score="detector-times-iou", detections=detections)
        return result.accuracy.coco

    results = json.loads(detections.read_text())
    expected = evaluated()
    detections.write_text(json.dumps(results[::-1]))
    assert evaluated() == expected


def test_a_detection_of_an_unknown_category_is_named_with_its_file(run, detections):
    results = json.loads(detections.read_text())
    results[0]["category_id"] = 0
    detections.write_text(json.dumps(results))
    (warning,) = run(prompts="detections", detections=detections).warnings
    assert warning["message"] == (
        "1 detections of detections.json have a category that instances.json lacks; left out"
    )


def test_detections_are_scored_under_their_category(run, detections):
    result = run(prompts="detections", score="detector-times-iou", detections=detections)
    assert result.accuracy.coco["AP"] == 1.0
    assert result.accuracy.mean_iou is None
    assert result.score == "detector-times-iou"


def test_every_image_is_reported(run):
    listener = Listener()
    run(progress=listener)
    assert listener.stages[0] == ("Evaluating", 2)
    assert listener.steps >= 2


def test_silent_by_default(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(progress=None)


def test_clean_data_has_no_warnings(run):
    assert run().warnings == []


def test_an_object_without_a_mask_is_left_out_of_all_numbers(run):
    def change(document):
        document["annotations"][0]["segmentation"] = []

    result = run(change)
    assert result.warnings == [
        {
            "name": "no-mask",
            "count": 1,
            "message": "1 annotations of instances.json have no segmentation; left out",
            "examples": [1],
        }
    ]
    assert result.instances == 11
    assert result.accuracy.coco["AP"] == result.accuracy.coco["AR100"] == 1.0


def test_images_under_other_folders_are_found(run):
    def change(document):
        for image in document["images"]:
            image["file_name"] = f"train2017\\{image['file_name']}"

    result = run(change)
    assert (result.images, result.warnings) == (2, [])


@pytest.mark.parametrize(
    ("bbox", "name"),
    [([5, 5, 0, 9], "zero-area-box"), ([500, 5, 9, 9], "box-outside-image")],
)
def test_unusable_box_is_warned_of_and_costs_recall_only(run, bbox, name):
    def change(document):
        document["annotations"][0]["bbox"] = bbox

    listener = Listener()
    result = run(change, progress=listener)
    (warning,) = result.warnings
    assert (warning["name"], warning["count"], warning["examples"]) == (name, 1, [1])
    assert [message.split(":")[0] for message in listener.warnings] == [name]
    assert result.instances == 11
    assert result.accuracy.mean_iou == 1.0
    assert result.accuracy.coco["AR100"] < 1.0


def test_missing_image_is_left_out_with_a_warning(run):
    def change(document):
        document["images"][0]["file_name"] = "gone.png"

    result = run(change)
    assert [warning["name"] for warning in result.warnings] == ["missing-image"]
    assert result.images == 1
    assert result.accuracy.coco["AP"] == 1.0


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda path: path.write_bytes(b"no picture"), "unreadable-image"),
        (lambda path: Image.new("RGB", (9, 9)).save(path), "image-size"),
    ],
)
def test_spoilt_image_is_left_out_with_a_warning(run, tmp_path, spoil, name):
    result = run(lambda document: spoil(tmp_path / document["images"][0]["file_name"]))
    assert [warning["name"] for warning in result.warnings] == [name]
    assert result.images == 1
    assert result.accuracy.coco["AP"] == 1.0


def test_no_image_in_the_folder_is_refused(coco_json, box_engine, tmp_path):
    path = coco_json()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"None of the 2 images of instances\.json"):
        evaluate(box_engine(), path, tmp_path / "empty")


def test_missing_folder_is_refused(coco_json, box_engine, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        evaluate(box_engine(), coco_json(), tmp_path / "nowhere")


def test_nothing_to_prompt_is_refused_with_the_reasons(run):
    def change(document):
        for annotation in document["annotations"]:
            annotation["bbox"] = [1, 1, 0, 0]

    with pytest.raises(
        UserError, match=r"nothing to prompt.*12 boxes of instances\.json have no area"
    ):
        run(change)


def test_predicted_iou_that_is_not_finite_is_refused(run, box_engine):
    class Broken(box_engine):
        def decode(self, *arguments):
            logits, ious = super().decode(*arguments)
            return logits, ious * np.nan

    with pytest.raises(UserError, match="not finite on image 10"):
        run(engine=Broken())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": "circles"}, "Unknown prompts 'circles'"),
        ({"score": "luck"}, "Unknown score 'luck'"),
        ({"prompts": "detections"}, "need the detector's result json"),
        ({"detections": "found.json"}, "but prompts are 'boxes'"),
        ({"limit": 0}, "limit is 0, expected 1 or more"),
        ({"bootstrap": -1}, "bootstrap is -1"),
        ({"chunk": 0}, "chunk is 0"),
    ],
)
def test_wrong_options_are_refused(run, options, message):
    with pytest.raises(UserError, match=message):
        run(**options)


@pytest.mark.parametrize("kind", PROMPT_KINDS.values(), ids=PROMPT_KINDS)
def test_every_kind_runs_on_a_real_model(kind, run, detections, tiny_sam):
    from carsam.engines.torch_engine import TorchEngine
    from carsam.families.sam.family import SamFamily

    engine = TorchEngine(SamFamily(), tiny_sam, "float")
    given = {"detections": detections} if kind.from_detections else {}
    assert run(engine=engine, prompts=kind.name, **given).instances == 12

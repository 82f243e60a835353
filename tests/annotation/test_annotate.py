"""Annotating a source: the masks of `carsam evaluate`, and an error for all that has none."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from annotation_files import rows, shards
from listening import Listener
from PIL import Image

from carsam.annotation.annotate import parse_shard
from carsam.cli import main
from carsam.errors import UserError
from carsam.images.run_lengths import RunLengths
from carsam.predict.everything.generator import SamAutomaticMaskGenerator
from carsam.predict.predictor import SamPredictor


@pytest.fixture(scope="module")
def expected(scenes):
    """The masks of all boxes, by annotation, as `SamPredictor` makes them."""
    document = json.loads((scenes / "instances.json").read_text())
    predictor = SamPredictor("sam-mini-w4a4")
    masks = {}
    for image in document["images"]:
        predictor.set_image(scenes / "images" / image["file_name"])
        for each in document["annotations"]:
            if each["image_id"] == image["id"]:
                x, y, width, height = each["bbox"]
                box = [x, y, x + width, y + height]
                found, ious, _ = predictor.predict(box=box, multimask_output=False)
                masks[each["id"]] = found[0], float(ious[0])
    return masks


def assert_masks(annotations, expected):
    """The annotations are the expected masks, each once."""
    assert sorted(each["prompt_id"] for each in annotations) == sorted(expected)
    for each in annotations:
        mask, iou = expected[each["prompt_id"]]
        assert (RunLengths.of_compressed(each["segmentation"]).mask() == mask).all()
        assert each["score"] == pytest.approx(iou, abs=1e-6)
    assert len({each["id"] for each in annotations}) == len(annotations)


def test_a_coco_json_is_annotated_with_its_own_boxes(annotated, expected, tmp_path):
    listener = Listener()
    summary = annotated(progress=listener)
    assert (summary.shards, summary.images, summary.masks) == (3, 6, len(expected))
    assert_masks(rows(tmp_path / "out", "annotations"), expected)
    assert [image["id"] for image in rows(tmp_path / "out", "images")] == [1, 2, 3, 4, 5, 6]
    assert rows(tmp_path / "out", "errors") == []
    assert listener.stages == [("Annotating", 6)] and listener.steps == 6


def test_a_tar_file_with_detections_is_annotated(annotated, expected, scenes, tmp_path):
    document = json.loads((scenes / "instances.json").read_text())
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for image in document["images"]:
            archive.add(scenes / "images" / image["file_name"], f"{image['id']:012}.png")
    keys = ("image_id", "bbox", "category_id")
    detections = [{key: each[key] for key in keys} for each in document["annotations"]]
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    annotated(tmp_path / "photos.tar", boxes=tmp_path / "detections.json")
    by_place = {place: expected[each["id"]] for place, each in enumerate(document["annotations"])}
    assert_masks(rows(tmp_path / "out", "annotations"), by_place)
    assert {image["id"] for image in rows(tmp_path / "out", "images")} == {1, 2, 3, 4, 5, 6}


def test_machines_share_the_shards(annotated, expected, tmp_path):
    counts = [annotated(shard=(number, 2)).shards for number in (1, 2)]
    assert counts == [2, 1]
    assert_masks(rows(tmp_path / "out", "annotations"), expected)


def test_shards_that_are_there_are_left_as_they_are(annotated, tmp_path):
    annotated(shard=(1, 3))
    (first,) = (tmp_path / "out").glob("shard-*.json")
    first.write_text("mine")
    summary = annotated()
    assert (summary.shards, summary.there) == (2, 1)
    assert first.read_text() == "mine"
    assert annotated().shards == 0


def spoil(folder, name, how):
    path = folder / name
    if how == "missing":
        path.unlink()
    elif how == "no picture":
        path.write_bytes(b"no picture")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        Image.new("RGB", (9, 9)).save(path)


@pytest.mark.filterwarnings("ignore:missing-image")
def test_each_bad_image_is_an_error_and_the_others_are_annotated(annotated, scenes, tmp_path):
    shutil.copytree(scenes / "images", tmp_path / "photos")
    names = sorted(path.name for path in (tmp_path / "photos").iterdir())
    reasons = {
        "missing": "it is not in",
        "no picture": "its content is no known format",
        "empty": "it is empty",
        "cut short": "Cannot read image",
        "another size": "has 9 x 9 pixels, but the json says 96 x 96",
    }
    for name, how in zip(names, reasons, strict=False):
        spoil(tmp_path / "photos", name, how)
    summary = annotated(images=str(tmp_path / "photos"))
    assert (summary.images, summary.errors) == (1, 5)
    errors = {error["file_name"]: error for error in rows(tmp_path / "out", "errors")}
    for name, (how, reason) in zip(names, reasons.items(), strict=False):
        assert reason in errors[name]["error"], how
        assert errors[name]["image_id"] == 1 + names.index(name)
    assert [image["file_name"] for image in rows(tmp_path / "out", "images")] == names[5:]


def test_each_bad_box_is_an_error(annotated, scenes, tmp_path):
    boxes = {"empty": [5, 5, 0, 9], "outside": [200, 5, 9, 9], "whole": [-5, -5, 500, 500]}
    detections = [{"image_id": 1, "bbox": box} for box in boxes.values()]
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    annotated(boxes=tmp_path / "detections.json")
    (document,) = shards(tmp_path / "out")
    assert [each["prompt_id"] for each in document["annotations"]] == [2]
    assert [(each["prompt_id"], each["error"]) for each in document["errors"]] == [
        (0, "The box at 5, 5 is 0 wide and 9 high."),
        (
            1,
            "The box from 200, 5 to 209, 14 lies outside the image, which is 96 pixels wide and 96 "
            "high.",
        ),
    ]
    assert document["categories"][0]["name"] == "shape"


def test_a_tar_file_cut_short_keeps_what_it_has(annotated, scenes, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted((scenes / "images").iterdir())[:2]:
            archive.add(path, path.name)
    (tmp_path / "a.tar").write_bytes(buffer.getvalue()[:-10240])
    annotated(tmp_path / "a.tar", boxes=scenes / "instances.json")
    (document,) = shards(tmp_path / "out")
    (error,) = document["errors"]
    assert error["file_name"] == "a.tar" and "no whole tar file" in error["error"]
    assert document["images"]


def test_a_deep_image_is_told(annotated, scenes, tmp_path):
    (tmp_path / "photos").mkdir()
    deep = np.arange(96 * 96, dtype=np.uint16).reshape(96, 96)
    Image.fromarray(deep).save(tmp_path / "photos" / "a.png")
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": "a", "bbox": [9, 9, 50, 50]}]))
    listener = Listener()
    annotated(tmp_path / "photos", boxes=tmp_path / "boxes.json", progress=listener)
    assert any("a.png has more than 8 bits" in message for message in listener.warnings)
    assert rows(tmp_path / "out", "images")[0]["id"] == "a"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs is 0, expected 1 or more"),
        ({"shard_size": 0}, "shard_size is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"shard": (3, 2)}, "Shard 3/2 is none"),
        ({"output": "xml"}, "Unknown format 'xml'"),
        ({"workers": "gnomes"}, "Unknown workers 'gnomes'; expected one of processes, ray"),
        ({"prompts": "guesses"}, "Unknown prompts 'guesses'; expected one of boxes, everything"),
        ({"points": 5}, "--points belongs to --prompts everything"),
        ({"prompts": "everything", "boxes": "a.json"}, "--boxes belongs to --prompts boxes"),
        ({"prompts": "everything", "points": 0}, "points is 0, expected 1 or more"),
        ({"boxes": "nowhere.json"}, r"Cannot read nowhere\.json"),
        ({"engine": "float"}, "is a run of `carsam quantize`, quantized already"),
    ],
)
def test_wrong_arguments_are_refused(annotated, options, message):
    with pytest.raises(UserError, match=message):
        annotated(**options)


def test_everything_needs_no_boxes(annotated, scenes, tmp_path):
    """The masks are those of the generator; an image without one is an error that says why."""
    (tmp_path / "photos").mkdir()
    shutil.copy(scenes / "images" / "scene_000001.png", tmp_path / "photos" / "a.png")
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "b.png")
    summary = annotated(tmp_path / "photos", prompts="everything", points=4)
    generator = SamAutomaticMaskGenerator(
        "sam-mini-w4a4", 4, pred_iou_thresh=None, stability_score_thresh=None
    )
    (document,) = shards(tmp_path / "out")
    for image, name in ((1, "a.png"), (2, "b.png")):
        expected, _ = generator.find(tmp_path / "photos" / name, warn=lambda _: None)
        found = [each for each in document["annotations"] if each["image_id"] == image]
        assert [each["segmentation"] for each in found] == [e.mask.compressed() for e in expected]
        assert [each["stability_score"] for each in found] == [e.stability_score for e in expected]
    assert (summary.images, summary.masks) == (2, len(document["annotations"]))
    without = {1, 2} - {each["image_id"] for each in document["annotations"]}
    assert without < {1, 2}
    assert [each["image_id"] for each in document["errors"]] == sorted(without)
    assert all("Found no mask: of 48 candidates" in each["error"] for each in document["errors"])


def test_images_without_boxes_are_refused(annotated, scenes, tmp_path):
    with pytest.raises(UserError, match="Found no boxes to prompt with on the images of"):
        annotated(scenes / "images")
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 77, "bbox": [1, 1, 5, 5]}]))
    with pytest.raises(UserError, match="has boxes on none of the images"):
        annotated(scenes / "images", boxes=tmp_path / "boxes.json")


def test_a_folder_of_another_annotation_is_refused(annotated, scenes, tmp_path):
    annotated(shard=(1, 3))
    with pytest.raises(UserError, match="holds an annotation with other images, or another"):
        annotated(shard_size=3)
    with pytest.raises(UserError, match="with another form"):
        annotated(output="coco-polygons")
    (tmp_path / "out" / "annotation.json").write_text("[]")
    with pytest.raises(UserError, match=r"annotation\.json is no plan"):
        annotated()
    (tmp_path / "out" / "annotation.json").unlink()
    with pytest.raises(UserError, match=r"has shards \(shard-000000\.json\) but no annotation"):
        annotated()


def test_the_command_says_what_it_made(scenes, tmp_path, capsys):
    source = [str(scenes / "instances.json"), "--images", str(scenes / "images")]
    out = ["--out", str(tmp_path / "out"), "--shard", "2/6", "--shard-size", "1", "--jobs", "1"]
    assert main(["annotate", "sam-mini-w4a4", *source, *out, "--quiet"]) == 0
    assert "out: 1 files, 1 images, 3 masks, 0 errors" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").glob("shard*")] == ["shard-000001.json"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="write 1/20 to 20/20"):
        parse_shard(text)

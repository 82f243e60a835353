"""Forms of results hold what was found, and name what was not."""

import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from carsam.annotation.items import Annotations, ErrorRecord, ImageRecord, MaskRecord
from carsam.annotation.outputs import OUTPUTS, find_output
from carsam.annotation.outputs.base import About
from carsam.annotation.outputs.coco import results
from carsam.annotation.outputs.label_studio import packed
from carsam.errors import UserError
from carsam.images.run_lengths import RunLengths

ABOUT = About({3: "cat", 4: "dog"}, {"model": "run"}, first_id=50)


@pytest.fixture
def found():
    """Two images, one of them with two masks, a bad image and a bad box."""
    mask = np.zeros((6, 9), bool)
    mask[1:5, 2:8] = True
    mask[2, 4] = False
    masks = [
        MaskRecord(1, 3, RunLengths.of_mask(mask), 0.75, 11),
        MaskRecord(1, None, RunLengths.of_mask(~mask), 0.5, detection_score=0.25),
    ]
    errors = [
        ErrorRecord(2, "b.png", "It lies outside.", 12),
        ErrorRecord(None, "c.png", "No picture."),
    ]
    return Annotations(
        [ImageRecord(1, "a.png", 9, 6), ImageRecord(2, "b.png", 9, 6)], masks, errors
    )


def test_coco_has_all_that_readers_ask_for(found):
    document = json.loads(OUTPUTS["coco"].content(found, ABOUT))
    assert document["info"] == {"model": "run"}
    assert document["images"] == [
        {"id": 1, "file_name": "a.png", "width": 9, "height": 6},
        {"id": 2, "file_name": "b.png", "width": 9, "height": 6},
    ]
    first, second = document["annotations"]
    assert first == {
        "id": 50,
        "image_id": 1,
        "category_id": 3,
        "bbox": [2, 1, 6, 4],
        "area": 23,
        "iscrowd": 0,
        "segmentation": found.masks[0].mask.compressed(),
        "score": 0.75,
        "prompt_id": 11,
    }
    assert (second["id"], second["category_id"], second["detection_score"]) == (51, 1, 0.25)
    names = {category["id"]: category["name"] for category in document["categories"]}
    assert names == {3: "cat", 4: "dog", 1: "object"}
    assert [error["error"] for error in document["errors"]] == ["It lies outside.", "No picture."]


def test_polygons_are_the_masks(found):
    document = json.loads(OUTPUTS["coco-polygons"].content(found, ABOUT))
    for annotation, mask in zip(document["annotations"], found.masks, strict=True):
        drawn = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], 6, 9))
        assert drawn["counts"].decode() == mask.mask.compressed()["counts"]


def test_results_have_no_boxes(found):
    keys = {"image_id", "category_id", "segmentation", "score"}
    assert [set(result) for result in results(found.masks)] == [keys, keys]


def test_tables_have_a_row_for_everything(found):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(OUTPUTS["parquet"].content(found, ABOUT)))
    rows = table.to_pylist()
    assert [(row["image_id"], row["counts"], row["error"]) for row in rows] == [
        ("2", None, None),
        *(("1", mask.mask.compressed()["counts"], None) for mask in found.masks),
        ("2", None, "It lies outside."),
        (None, None, "No picture."),
    ]
    expected = {"category_id": "3", "category": "cat", "area": 23, "prompt_id": "11"}
    expected |= {"x": 2, "y": 1, "box_width": 6, "box_height": 4, "width": 9, "height": 6}
    assert expected.items() <= rows[1].items()
    assert json.loads(table.schema.metadata[b"carsam"]) == {"model": "run"}


def test_empty_tables_have_the_same_columns(found):
    parquet = pytest.importorskip("pyarrow.parquet")
    full, empty = (
        parquet.read_table(io.BytesIO(OUTPUTS["parquet"].content(each, ABOUT)))
        for each in (found, Annotations())
    )
    assert empty.schema == full.schema and empty.num_rows == 0


def test_label_studio_gets_a_task_for_each_image(found):
    first, second = json.loads(OUTPUTS["label-studio"].content(found, ABOUT))
    assert first["data"] == {"image": "a.png"}
    (prediction,) = first["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("run", 0.625)
    regions = prediction["result"]
    assert [region["value"]["brushlabels"] for region in regions] == [["cat"], ["object"]]
    assert regions[0]["original_width"] == 9 and regions[0]["original_height"] == 6
    assert second["predictions"][0]["result"] == []


def unpacked(values):
    """The values that thi.ng's bit packing holds, read bit by bit."""
    bits = "".join(f"{value:08b}" for value in values)
    place = 0

    def take(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    found = []
    while len(found) < total:
        repeated, length = take(1), take(lengths[take(2)]) + 1
        found += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    return np.array(found)


@pytest.mark.parametrize("side", [1, 5, 200])
def test_packed_masks_hold_their_pixels(side):
    mask = np.random.default_rng(0).random((side, side + 3)) < 0.5
    mask[: side // 2] = True  # a run longer than 2**16 values for the largest side
    pixels = unpacked(packed(RunLengths.of_mask(mask))).reshape(side, side + 3, 4)
    assert (pixels == 255 * mask[..., None]).all()


def test_unknown_forms_are_refused():
    with pytest.raises(UserError, match="expected one of coco, coco-polygons, label-studio, parq"):
        find_output("xml")

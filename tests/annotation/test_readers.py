"""Other tools' own readers read the masks of an evaluation."""

import contextlib
import importlib
import importlib.util
import io
import json
import runpy
import sys

import numpy as np
import pytest

from carsam.cli import main
from carsam.evaluation.coco import METRICS
from carsam.images.run_lengths import RunLengths

FORMS = ("predictions", "instances", "polygons", "label-studio")


@pytest.fixture(scope="module")
def written(scenes, tmp_path_factory):
    """Folder with `result.json` and the masks of the evaluation in every form."""
    folder = tmp_path_factory.mktemp("written")
    data = ["--coco", scenes / "instances.json", "--images", scenes / "images"]
    files = [part for form in FORMS for part in (f"--{form}", folder / f"{form}.json")]
    arguments = ["evaluate", "sam-mini-w4a4", *data, "--json", folder / "result.json", *files]
    assert main([str(a) for a in (*arguments, "--compare", "none", "--quiet")]) == 0
    return folder


def read(folder, form):
    return json.loads((folder / f"{form}.json").read_text())


def masks_of(folder):
    """Image id -> its masks (H, W), in order."""
    masks = {}
    for annotation in read(folder, "instances")["annotations"]:
        masks.setdefault(annotation["image_id"], []).append(
            RunLengths.of_compressed(annotation["segmentation"]).mask()
        )
    return masks


def test_pycocotools_gives_the_same_twelve_numbers(written, scenes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(scenes / "instances.json")
        evaluation = COCOeval(truth, truth.loadRes(str(written / "predictions.json")), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = read(written, "result")["coco"]
    found = {
        name: None if value < 0 else value
        for name, value in zip(METRICS, evaluation.stats, strict=True)
    }
    assert found == pytest.approx(expected, abs=1e-12)
    assert expected["AP"] > 0.1


def test_instances_are_the_predictions_with_boxes_areas_and_names(written):
    predictions, document = read(written, "predictions"), read(written, "instances")
    assert [each["segmentation"] for each in document["annotations"]] == [
        each["segmentation"] for each in predictions
    ]
    assert [each["id"] for each in document["annotations"]] == list(range(1, 1 + len(predictions)))
    assert document["categories"][0] == {"id": 1, "name": "shape", "supercategory": ""}


@pytest.mark.parametrize("form", ["instances", "polygons"])
def test_pycocotools_reads_the_instances(written, form):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(written / f"{form}.json")
    for image, masks in masks_of(written).items():
        found = coco.loadAnns(coco.getAnnIds(image))
        assert [coco.annToMask(each).tolist() for each in found] == [m.tolist() for m in masks]
        assert [each["area"] for each in found] == [mask.sum() for mask in masks]


@pytest.mark.parametrize("form", ["instances", "polygons"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # OpenCV is not there
def test_supervision_reads_them(written, scenes, form):
    supervision = pytest.importorskip("supervision")
    dataset = supervision.DetectionDataset.from_coco(
        str(scenes / "images"), str(written / f"{form}.json"), force_masks=True
    )
    assert dataset.classes == ["shape", "other"]
    expected = list(masks_of(written).values())
    found = {path: detections.mask for path, _, detections in dataset}
    assert len(found) == len(expected)
    for masks, (_, given) in zip(expected, sorted(found.items()), strict=True):
        if form == "instances":
            assert (np.array(given) == np.array(masks)).all()
        else:  # supervision fills polygons with their edge, half a pixel outwards
            assert np.mean(np.array(given) == np.array(masks)) > 0.95


@pytest.mark.parametrize("form", ["instances", "polygons"])
def test_datumaro_which_cvat_reads_with_reads_them(
    written, scenes, tmp_path, form, client, monkeypatch
):
    monkeypatch.setattr(sys, "path", [*sys.path, str(client("datumaro"))])
    datumaro = importlib.import_module("datumaro")
    (tmp_path / "annotations").mkdir()
    content = (written / f"{form}.json").read_text()
    (tmp_path / "annotations" / "instances_default.json").write_text(content)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "default").symlink_to(scenes / "images")
    dataset = datumaro.Dataset.import_from(str(tmp_path), "coco_instances")
    expected = masks_of(written)
    assert len(dataset) == len(expected)
    names = dataset.categories()[datumaro.AnnotationType.label]
    for item in dataset:
        found = [each for each in item.annotations if each.label is not None]
        assert {names[each.label].name for each in found} == {"shape"}
        if form == "instances":
            masks = [each for each in found if each.type == datumaro.AnnotationType.mask]
            order = sorted(masks, key=lambda each: each.id)
            assert [each.image.tolist() for each in order] == [
                mask.tolist() for mask in expected[item.attributes["id"]]
            ]


def test_label_studios_own_decoder_reads_the_brushes(written, client):
    """Its file alone, which the rest of the package asks for much more than."""
    file = client("label-studio-sdk") / "label_studio_sdk" / "converter" / "brush.py"
    decode = runpy.run_path(str(file))["decode_rle"]
    expected = masks_of(written)
    for task in read(written, "label-studio"):
        regions = task["predictions"][0]["result"]
        for region, mask in zip(regions, expected[task["meta"]["image_id"]], strict=True):
            pixels = np.array(decode(region["value"]["rle"])).reshape(*mask.shape, 4)
            assert (pixels[..., 3] == 255 * mask).all()


@pytest.mark.filterwarnings("ignore")  # of FiftyOne and of what it imports
def test_fiftyones_reader_reads_them(written, monkeypatch):
    if importlib.util.find_spec("fiftyone") is None:
        pytest.skip("needs fiftyone==1.22.1")
    monkeypatch.setenv("FIFTYONE_DISABLE_SERVICES", "1")  # its database
    reader = importlib.import_module("fiftyone.utils.coco")
    path = str(written / "instances.json")
    _, _, categories, images, objects = reader.load_coco_detection_annotations(path)
    names = {category["id"]: name for name, category in categories.items()}
    for image, masks in masks_of(written).items():
        size = images[image]["width"], images[image]["height"]
        found = [each.to_detection(size, names, load_segmentation=True) for each in objects[image]]
        assert [each.label for each in found] == ["shape"] * len(masks)
        assert [int(each.mask.sum()) for each in found] == [mask.sum() for mask in masks]

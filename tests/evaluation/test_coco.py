import contextlib
import dataclasses
import io

import numpy as np
import pytest

from carsam.evaluation import masks
from carsam.evaluation.bootstrap import resample_weights
from carsam.evaluation.coco import METRICS, coco_metrics
from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.coco_reading import read_coco
from carsam.evaluation.matching import average_precision
from carsam.evaluation.shapes import SHAPES, shape_predictions
from carsam.evaluation.stream import Prediction


def random_predictions(data: CocoData, seed: int, scores: int) -> list[Prediction]:
    """Up to 130 noisy masks per image, of true and wrong categories, with `scores` values."""
    generator = np.random.default_rng(seed)
    predictions = []
    for image in data.images:
        annotations = data.of_image(image.id)
        for _ in range(generator.integers(0, 131)):
            target = annotations[generator.integers(len(annotations))]
            mask = masks.decode(masks.annotation_rle(target, image))
            mask = np.roll(mask, generator.integers(-2, 3), axis=(0, 1))
            mask[generator.random(mask.shape) < 0.1] ^= True
            right = generator.random() < 0.8
            category = target.category_id if right else int(generator.choice(data.category_ids))
            score = float(generator.integers(1, scores + 1) / scores)
            predictions.append(
                Prediction(image.id, category, None, masks.encode(mask), score, score, None, None)
            )
    return predictions


def pycocotools_numbers(path, predictions) -> dict[str, float | None]:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(path)
        results = truth.loadRes(
            [
                {
                    "image_id": prediction.image_id,
                    "category_id": prediction.category_id,
                    "score": prediction.score,
                    "segmentation": prediction.rle,
                }
                for prediction in predictions
            ]
        )
        evaluation = cocoeval.COCOeval(truth, results, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        name: None if value < 0 else value
        for name, value in zip(METRICS, evaluation.stats, strict=True)
    }


@pytest.mark.parametrize("scores", [1, 5, 10**6])
@pytest.mark.parametrize("seed", range(3))
def test_all_numbers_are_those_of_pycocotools(coco_json, seed, scores):
    path = coco_json(seed=seed, images=6, crowds=True)
    data = read_coco(path)
    predictions = random_predictions(data, seed, scores)
    numbers = coco_metrics(data, predictions).numbers
    expected = pycocotools_numbers(path, predictions)
    assert expected["APs"] is not None and expected["APm"] is not None
    assert numbers == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scores", [1, 5, 10**6])
@pytest.mark.parametrize("seed", range(3))
def test_matches_with_every_image_once_give_ap(coco_json, seed, scores):
    data = read_coco(coco_json(seed=seed, images=6, crowds=True))
    metrics = coco_metrics(data, random_predictions(data, seed, scores))
    once = np.ones((1, len(data.images)), int)
    (recomputed,) = average_precision(metrics.matches, once)
    assert recomputed == pytest.approx(metrics.numbers["AP"], abs=1e-15)


def test_weighted_images_give_ap_of_repeated_images(coco_json):
    data = read_coco(coco_json(seed=1, images=5, crowds=True))
    predictions = random_predictions(data, seed=1, scores=10**9)
    weights = resample_weights(5, 3, seed=4)
    resampled = average_precision(coco_metrics(data, predictions).matches, weights)
    for row, ap in zip(weights, resampled, strict=True):
        repeated, repeated_predictions = repeat(data, predictions, row)
        expected = coco_metrics(repeated, repeated_predictions).numbers["AP"]
        assert ap == pytest.approx(expected, abs=1e-12)


def repeat(data, predictions, counts):
    """Data in which each image stands as often as `counts` says, under new ids."""
    images, annotations, copies = [], [], []
    for image, count in zip(data.images, counts, strict=True):
        for _ in range(count):
            identity = len(images) + 1
            images.append(dataclasses.replace(image, id=identity))
            for annotation in data.of_image(image.id):
                annotations.append(
                    dataclasses.replace(annotation, id=len(annotations) + 1, image_id=identity)
                )
            copies += [
                dataclasses.replace(prediction, image_id=identity)
                for prediction in predictions
                if prediction.image_id == image.id
            ]
    return CocoData(tuple(images), tuple(annotations), data.category_ids), copies


def test_true_masks_have_ap_one(coco_json):
    data = read_coco(coco_json(images=3, crowds=False))
    images = {image.id: image for image in data.images}
    predictions = [
        Prediction(
            annotation.image_id,
            annotation.category_id,
            annotation,
            masks.annotation_rle(annotation, images[annotation.image_id]),
            1.0,
            1.0,
            None,
            None,
        )
        for annotation in data.annotations
    ]
    assert coco_metrics(data, predictions).numbers["AP"] == 1.0


def test_no_predictions_have_ap_zero(coco_json):
    assert coco_metrics(read_coco(coco_json()), []).numbers["AP"] == 0.0


def test_sizes_without_objects_have_no_number(coco_json):
    data = read_coco(coco_json(images=2))
    assert coco_metrics(data, []).numbers["APl"] is None  # the images are smaller than 96 x 96


@pytest.mark.coco
@pytest.mark.parametrize(
    ("shape", "ap", "mean_iou"), [("box", 23.4, 61.0), ("ellipse", 29.8, 64.7)]
)
def test_shapes_reach_their_known_numbers_on_real_images(coco_data, shape, ap, mean_iou):
    data = read_coco(coco_data / "annotations" / "val_dev.json")
    predictions = shape_predictions(data, SHAPES[shape])
    assert 100 * coco_metrics(data, predictions).numbers["AP"] == pytest.approx(ap, abs=0.05)
    assert 100 * np.mean([p.iou for p in predictions]) == pytest.approx(mean_iou, abs=0.05)

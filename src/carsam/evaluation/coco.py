"""COCO AP of masks: the twelve numbers, and the table of matches that the bootstrap re-weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faster_coco_eval import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster

from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.ids import Id, count_from_one
from carsam.evaluation.masks import ScoredMask
from carsam.evaluation.matching import MatchTable, match_table

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers in the order of its summary."""


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's twelve numbers, 0 to 1, None where no object counts; the matches AP is made from."""

    numbers: dict[str, float | None]
    matches: MatchTable


def coco_metrics(data: CocoData, predictions: Sequence[ScoredMask]) -> CocoMetrics:
    """Return the AP and AR of predicted masks over all images of `data`.

    IoU thresholds 0.50 to 0.95, at most 100 masks per image and category, crowds ignored: the
    numbers of pycocotools for `iouType="segm"`. The library sees no id of the json: it takes an
    annotation 0 for unmatched, and can hold no text and no number beyond 63 bits.
    """
    images = count_from_one(image.id for image in data.images)
    categories = count_from_one(data.category_ids)
    truth = _truth(data, images, categories)
    results = _results(truth, predictions, images, categories)
    evaluation = COCOeval_faster(truth, results, iouType="segm")
    evaluation.run()
    stats = evaluation.stats[: len(METRICS)]
    numbers = {
        name: None if value < 0 else float(value)
        for name, value in zip(METRICS, stats, strict=True)
    }
    return CocoMetrics(numbers, match_table(data, predictions, evaluation.ious))


def _truth(
    data: CocoData, image_numbers: Mapping[Id, int], category_numbers: Mapping[Id, int]
) -> COCO:
    images = [
        {"id": image_numbers[image.id], "height": image.height, "width": image.width}
        for image in data.images
    ]
    annotations = [
        {
            "id": number,
            "image_id": image_numbers[annotation.image_id],
            "category_id": category_numbers[annotation.category_id],
            "bbox": _xywh(annotation.box),
            "area": annotation.area,
            "iscrowd": int(annotation.crowd),
            "segmentation": annotation.segmentation,
        }
        for number, annotation in enumerate(data.annotations, 1)
    ]
    categories = [{"id": number, "name": str(number)} for number in category_numbers.values()]
    return COCO({"images": images, "annotations": annotations, "categories": categories})


def _results(
    truth: COCO,
    predictions: Sequence[ScoredMask],
    image_numbers: Mapping[Id, int],
    category_numbers: Mapping[Id, int],
) -> COCO:
    results = [
        {
            "image_id": image_numbers[prediction.image_id],
            "category_id": category_numbers[prediction.category_id],
            "score": prediction.score,
            "segmentation": prediction.rle,
        }
        for prediction in predictions
    ]
    if results:
        return truth.loadRes(results)
    return COCO({**truth.dataset, "annotations": []})


def _xywh(box: tuple[float, float, float, float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]

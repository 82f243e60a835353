"""COCO AP of masks: the twelve numbers, and the table of matches that the bootstrap re-weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from faster_coco_eval import COCO
from faster_coco_eval.core.faster_eval_api import COCOeval_faster

from carsam.evaluation.coco_data import CocoData
from carsam.evaluation.masks import ScoredMask
from carsam.evaluation.matching import MatchTable, match_table

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers in the order of its summary."""


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's twelve numbers, 0 to 1, None where no object counts; and the matches behind AP."""

    numbers: dict[str, float | None]
    matches: MatchTable


def coco_metrics(data: CocoData, predictions: Sequence[ScoredMask]) -> CocoMetrics:
    """Return the AP and AR of predicted masks over all images of `data`.

    IoU thresholds 0.50 to 0.95, at most 100 masks per image and category, crowds ignored: the
    numbers of pycocotools for `iouType="segm"`.
    """
    truth = _truth(data)
    evaluation = COCOeval_faster(truth, _results(truth, predictions), iouType="segm")
    evaluation.run()
    stats = evaluation.stats[: len(METRICS)]
    numbers = {
        name: None if value < 0 else float(value)
        for name, value in zip(METRICS, stats, strict=True)
    }
    return CocoMetrics(numbers, match_table(data, predictions, evaluation.ious))


def _truth(data: CocoData) -> COCO:
    images = [
        {"id": image.id, "height": image.height, "width": image.width} for image in data.images
    ]
    annotations = [
        {
            "id": annotation.id,
            "image_id": annotation.image_id,
            "category_id": annotation.category_id,
            "bbox": _xywh(annotation.box),
            "area": annotation.area,
            "iscrowd": int(annotation.crowd),
            "segmentation": annotation.segmentation,
        }
        for annotation in data.annotations
    ]
    categories = [{"id": identity, "name": str(identity)} for identity in data.category_ids]
    return COCO({"images": images, "annotations": annotations, "categories": categories})


def _results(truth: COCO, predictions: Sequence[ScoredMask]) -> COCO:
    results = [
        {
            "image_id": prediction.image_id,
            "category_id": prediction.category_id,
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

"""The interface of carsam itself: images, masks of prompts, everything mode."""

import time
from typing import Any

from carsam.images.run_lengths import RunLengths
from carsam.serve.asked import Answer, Asked
from carsam.serve.embeddings import Encoded
from carsam.serve.fields import field, known, optional, parse
from carsam.serve.images import checked_content, from_address
from carsam.serve.refusals import wrong
from carsam.serve.segmenter import Found

MOST_POINTS_PER_SIDE = 64


def health(asked: Asked) -> dict[str, Any]:
    """Say that the server is there, and what it serves."""
    return {
        "status": "UP",
        "model": asked.segmenter.name,
        "model_class": "carsam",
        "engine": asked.segmenter.engine.mode,
        "replaced": asked.segmenter.replaced,
        "models_loaded": 1,
    }


def add_image(asked: Asked) -> dict[str, Any]:
    """Encode an image: the body is its file, or JSON with a data URI."""
    if not asked.json:
        return _about(asked.encoded(checked_content(asked.body)))
    request = parse(asked.body)
    known(request, "image")
    return _about(_image(asked, request))


def find_image(asked: Asked, key: str) -> dict[str, Any]:
    """Say whether an image is kept, so that it need not be sent again."""
    return _about(asked.segmenter.kept(key))


def predict(asked: Asked) -> dict[str, Any]:
    """Return the masks of boxes or points, or those that the model proposes without them."""
    request = parse(asked.body)
    known(request, "image", "boxes", "points", "labels", "multimask")
    boxes, points, labels = (
        field(request, name, list) if request.get(name) is not None else None
        for name in ("boxes", "points", "labels")
    )
    multimask = optional(request, "multimask", bool, False)
    encoded = _image(asked, request)
    began = time.perf_counter()
    found = asked.segmenter.masks(encoded, boxes, points, labels, multimask)
    masks = [[_record(mask) for mask in each] for each in found]
    return {**_about(encoded), "masks": masks, "seconds": time.perf_counter() - began}


def everything(asked: Asked) -> dict[str, Any]:
    """Return the masks of all that is in an image."""
    asked.take_time()
    request = parse(asked.body)
    known(request, "image", "points_per_side", "iou", "stability", "min_area")
    points = optional(request, "points_per_side", int, 32)
    if not 1 <= points <= MOST_POINTS_PER_SIDE:
        raise wrong(f"Found {points} points_per_side; expected 1 to {MOST_POINTS_PER_SIDE}.")
    thresholds = {
        long: field(request, short, float) if request.get(short) is not None else None
        for short, long in (("iou", "pred_iou_thresh"), ("stability", "stability_score_thresh"))
    }
    encoded = _image(asked, request)
    began = time.perf_counter()
    records, said = asked.segmenter.everything(
        encoded,
        points_per_side=points,
        min_mask_region_area=optional(request, "min_area", int, 0),
        **thresholds,
    )
    for each in records:
        if each["stability_score"] != each["stability_score"]:  # JSON has no NaN
            each["stability_score"] = None
    about = _about(encoded)
    warnings = [*about["warnings"], *said]
    seconds = time.perf_counter() - began
    return {**about, "masks": records, "seconds": seconds, "warnings": warnings}


ANSWERS: dict[str, Answer] = {
    "/api/images": add_image,
    "/api/predict": predict,
    "/api/everything": everything,
}
"""What answers a POST to each path."""


def _image(asked: Asked, request: dict[str, Any]) -> Encoded:
    given = field(request, "image", str)
    if ":" in given[:20] or given.startswith("/"):
        return asked.encoded(from_address(given, asked.settings))
    return asked.segmenter.kept(given)


def _about(encoded: Encoded) -> dict[str, Any]:
    height, width = encoded.size
    return {
        "image": encoded.key,
        "height": height,
        "width": width,
        "encode_seconds": encoded.seconds,
        "warnings": list(encoded.warnings),
    }


def _record(found: Found) -> dict[str, Any]:
    runs = RunLengths.of_mask(found.mask)
    left, top, right, bottom = runs.box
    inside = int(runs.area > 0)
    return {
        "segmentation": runs.compressed(),
        "area": runs.area,
        "bbox": [left, top, right - left + inside, bottom - top + inside],
        "predicted_iou": found.predicted_iou,
    }

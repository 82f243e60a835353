"""Everything mode: masks of all that is in an image, without prompts."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from carsam.engines.base import Embedding
from carsam.errors import UserError
from carsam.formats.mask_thresholds import METAS_THRESHOLDS
from carsam.images.given_arrays import finite_numbers
from carsam.images.read import ImageSource, read_image
from carsam.images.remarks import Tell
from carsam.images.run_lengths import RunLengths
from carsam.predict.embeddings import EmbeddingCache
from carsam.predict.everything.candidates import Candidate, Tally, Thresholds, find_candidates
from carsam.predict.everything.points import CropBox, crop_boxes, layer_grids
from carsam.predict.everything.small_regions import without_small_regions
from carsam.predict.everything.suppression import suppress
from carsam.predict.predictor import SamPredictor

OUTPUT_MODES: dict[str, Callable[[RunLengths], Any]] = {
    "binary_mask": RunLengths.mask,
    "uncompressed_rle": RunLengths.uncompressed,
    "coco_rle": RunLengths.compressed,
}
"""What becomes of a mask in a record."""


class SamAutomaticMaskGenerator:
    """Asks at a grid of points and keeps what is confident, stable and seen once.

    Names, defaults and records are segment-anything's; numpy alone does the work, and of all
    masks but one only the run lengths are in memory (of at most three for each point).

    Args:
        model: what `SamPredictor` takes.
        points_per_side: points along a side of the image.
        points_per_batch: points decoded together.
        pred_iou_thresh: predicted IoU that a mask must exceed; None for what was recorded when
            the model was quantized, or segment-anything's 0.88 where nothing was.
        stability_score_thresh: stability score that it must reach; None likewise, or 0.95.
        stability_score_offset: what the score moves the threshold of the logits by.
        box_nms_thresh: overlap of boxes from which on only the more confident mask stays.
        crop_n_layers: layers of crops that are asked too; layer i has 4^i.
        crop_nms_thresh: as `box_nms_thresh`, between crops; masks of smaller crops stay.
        crop_overlap_ratio: share of the shorter side that crops of the first layer overlap by.
        crop_n_points_downscale_factor: each layer's crops have so many times fewer points a side.
        point_grids: points (n, 2) in 0..1 for the image and each layer, instead of
            `points_per_side`.
        min_mask_region_area: holes and islands of fewer pixels go.
        output_mode: `binary_mask`, `uncompressed_rle` or `coco_rle`; the first takes as many
            bytes as the image has pixels for every mask.
        cache: of embeddings, as of `SamPredictor`.

    Raises:
        UserError: an argument makes no sense, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: Any,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = METAS_THRESHOLDS.pred_iou_thresh,
        stability_score_thresh: float | None = METAS_THRESHOLDS.stability_score_thresh,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        *,
        cache: EmbeddingCache | str | Path | None = None,
    ) -> None:
        for name, number, least in (
            ("points_per_batch", points_per_batch, 1),
            ("crop_n_layers", crop_n_layers, 0),
            ("crop_n_points_downscale_factor", crop_n_points_downscale_factor, 1),
            ("min_mask_region_area", min_mask_region_area, 0),
        ):
            _check_count(name, number, least)
        for name, value in (
            ("pred_iou_thresh", 0 if pred_iou_thresh is None else pred_iou_thresh),
            (
                "stability_score_thresh",
                0 if stability_score_thresh is None else stability_score_thresh,
            ),
            ("stability_score_offset", stability_score_offset),
            ("box_nms_thresh", box_nms_thresh),
            ("crop_nms_thresh", crop_nms_thresh),
            ("crop_overlap_ratio", crop_overlap_ratio),
        ):
            _check_number(name, value)
        if not 0 <= crop_overlap_ratio < 1:
            raise UserError(
                f"Found crop_overlap_ratio {crop_overlap_ratio}; expected 0 or more, less than 1."
            )
        if output_mode not in OUTPUT_MODES:
            raise UserError(
                f"Found output_mode {output_mode!r}; expected one of {', '.join(OUTPUT_MODES)}."
            )
        self.point_grids = _point_grids(
            points_per_side, point_grids, crop_n_layers, crop_n_points_downscale_factor
        )
        self.predictor = SamPredictor(model, cache)
        own = getattr(self.predictor.engine, "mask_thresholds", None) or METAS_THRESHOLDS
        self.pred_iou_thresh = own.pred_iou_thresh if pred_iou_thresh is None else pred_iou_thresh
        self.stability_score_thresh = (
            own.stability_score_thresh if stability_score_thresh is None else stability_score_thresh
        )
        self.points_per_batch = points_per_batch
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode

    def generate(self, image: ImageSource, *, warn: Tell = warnings.warn) -> list[dict[str, Any]]:
        """Return a record for each mask, the most confident first; an empty list for none.

        Args:
            image: RGB uint8 array or tensor (H, W, 3), a Pillow image, or a file.
            warn: told the best scores where there is no mask, and as of `SamPredictor.set_image`.

        Returns:
            dicts with `segmentation` (see `output_mode`), `area` in pixels, `bbox` x y w h,
            `predicted_iou`, `point_coords` [[x, y]], `stability_score` and `crop_box` x y w h. As
            segment-anything's, w and h of `bbox` lead to the last pixel, not beyond it.

        Raises:
            UserError: the image cannot be used.
        """
        found, _ = self.find(image, warn=warn)
        return [record(each, OUTPUT_MODES[self.output_mode]) for each in found]

    def generate_encoded(
        self, embedding: Embedding, original_size: tuple[int, int], *, warn: Tell = warnings.warn
    ) -> list[dict[str, Any]]:
        """Return the records of an image that is encoded already.

        Args:
            embedding: of a predictor with the same model.
            original_size: height and width of the image.

        Raises:
            UserError: `crop_n_layers` is not 0; crops need the image itself.
        """
        if self.crop_n_layers:
            raise UserError(
                f"Found crop_n_layers {self.crop_n_layers} for an embedding; crops need the image."
            )
        self.predictor.features, self.predictor.original_size = embedding, original_size
        found, _ = self._finished(self._whole, warn)
        return [record(each, OUTPUT_MODES[self.output_mode]) for each in found]

    def find(
        self, image: ImageSource, *, warn: Tell = warnings.warn
    ) -> tuple[list[Candidate], tuple[int, int]]:
        """Return the masks as run lengths, and height and width of the image.

        Arguments and errors are those of `generate`.
        """
        return self._finished(lambda tally: self._find(image, tally, warn), warn)

    def _finished(
        self, find: Callable[[Tally], tuple[list[Candidate], tuple[int, int]]], warn: Tell
    ) -> tuple[list[Candidate], tuple[int, int]]:
        """Return what `find` does, cleaned; say why where there is nothing."""
        tally = Tally()
        try:
            found, size = find(tally)
        finally:
            self.predictor.reset_image()
        if self.min_mask_region_area:
            found = self._without_small_regions(found)
        if not found:
            warn(self._why_none(tally))
        return found, size

    def _find(
        self, image: ImageSource, tally: Tally, warn: Tell
    ) -> tuple[list[Candidate], tuple[int, int]]:
        if not self.crop_n_layers:  # the image itself is not needed then, only what the model sees
            self.predictor.set_image(image, warn=warn)
            return self._whole(tally)
        pixels = read_image(image, warn=warn)
        size = (pixels.shape[0], pixels.shape[1])
        found: list[Candidate] = []
        for box, layer in crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio):
            x0, y0, x1, y1 = box
            self.predictor.set_image(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
            found += self._candidates(box, layer, size, tally)
        # Masks of smaller crops are better.
        areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (each.crop_box for each in found)]
        scores = 1 / np.array(areas, np.float32)
        kept = suppress(_boxes(found), scores, self.crop_nms_thresh)
        return [found[index] for index in kept], size

    def _whole(self, tally: Tally) -> tuple[list[Candidate], tuple[int, int]]:
        """Return the masks of the image that is set, and its height and width."""
        size = self.predictor.original_size
        return self._candidates((0, 0, size[1], size[0]), 0, size, tally), size

    def _candidates(
        self, crop_box: CropBox, layer: int, image_size: tuple[int, int], tally: Tally
    ) -> list[Candidate]:
        """Return the masks of the crop that is set, each seen once, the most confident first."""
        predictor = self.predictor
        found: list[Candidate] = []
        frame, embedding = predictor.frame, predictor.embedding
        points = self.point_grids[layer] * np.array(frame.original_size[::-1])
        thresholds = Thresholds(
            self.pred_iou_thresh, self.stability_score_thresh, self.stability_score_offset
        )
        for start in range(0, len(points), self.points_per_batch):
            found += find_candidates(
                predictor.engine,
                embedding,
                frame,
                points[start : start + self.points_per_batch],
                crop_box,
                image_size,
                thresholds,
                tally,
            )
        scores = np.array([each.predicted_iou for each in found], np.float32)
        return [found[index] for index in suppress(_boxes(found), scores, self.box_nms_thresh)]

    def _without_small_regions(self, found: list[Candidate]) -> list[Candidate]:
        """Clean masks, and let those that needed it go where they are like another one now."""
        cleaned, scores = [], []
        for each in found:
            mask, changed = without_small_regions(each.mask, self.min_mask_region_area)
            cleaned.append(replace(each, mask=mask, box=mask.box) if changed else each)
            scores.append(not changed)
        threshold = max(self.box_nms_thresh, self.crop_nms_thresh)
        return [
            cleaned[i] for i in suppress(_boxes(cleaned), np.array(scores, np.float32), threshold)
        ]

    def _why_none(self, tally: Tally) -> str:
        tally.judge_best(self.stability_score_offset)
        return (
            f"Found no mask: of {tally.count} candidates {tally.confident} have a predicted IoU "
            f"above {self.pred_iou_thresh:.3g} (the best is {tally.best_iou:.3f}), and "
            f"{tally.stable} of these a stability score of at least "
            f"{self.stability_score_thresh:.3g} (the best is {tally.best_stability:.3f}). "
            "Lower pred_iou_thresh and stability_score_thresh (--iou and --stability of "
            "`carsam masks`); None stands for the model's own."
        )


def record(each: Candidate, encode: Callable[[RunLengths], Any]) -> dict[str, Any]:
    """Return a mask as `SamAutomaticMaskGenerator.generate` does, its pixels as `encode` does."""
    return {
        "segmentation": encode(each.mask),
        "area": each.mask.area,
        "bbox": _width_and_height(each.box),
        "predicted_iou": each.predicted_iou,
        "point_coords": [list(each.point)],
        "stability_score": each.stability_score,
        "crop_box": _width_and_height(each.crop_box),
    }


def _width_and_height(box: tuple[int, int, int, int]) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def _boxes(found: Sequence[Candidate]) -> np.ndarray:
    return np.array([each.box for each in found], np.float32).reshape(-1, 4)


def _check_count(name: str, number: Any, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise UserError(f"Found {name} {number}; expected an integer of at least {least}.")


def _check_number(name: str, number: Any) -> None:
    if not isinstance(number, int | float | np.number) or not np.isfinite(number):
        raise UserError(f"Found {name} {number}; expected a number.")


def _point_grids(
    side: int | None, grids: Sequence[np.ndarray] | None, layers: int, downscale: int
) -> list[np.ndarray]:
    """Return the points (n, 2) in 0..1 of the image and of each layer of crops."""
    if (side is None) == (grids is None):
        raise UserError(
            "Give either points_per_side or point_grids; expected one of the two, and the other "
            "to be None."
        )
    if grids is None:
        _check_count("points_per_side", side, 1)
        assert side is not None
        if int(side / downscale**layers) < 1:
            raise UserError(
                f"Found points_per_side {side} and crop_n_points_downscale_factor {downscale}, "
                f"which leave no point in the crops of layer {layers}; give more points."
            )
        return layer_grids(side, layers, downscale)
    checked = [finite_numbers(grid, "point_grids") for grid in grids]
    if len(checked) <= layers:
        raise UserError(
            f"Found {len(checked)} point_grids for {layers} layers of crops; expected one for the "
            "image and one for each layer."
        )
    for grid in checked:
        if grid.ndim != 2 or grid.shape[1] != 2 or not len(grid):
            raise UserError(f"Found a point grid of shape {grid.shape}; expected (n, 2).")
        if grid.min() < 0 or grid.max() > 1:
            raise UserError("Found a point grid with values outside 0 to 1; expected shares.")
    return checked

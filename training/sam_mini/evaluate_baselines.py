"""AP and mean IoU with ground-truth boxes: sam-mini, the filled box, the inscribed ellipse.

From the folder `training`:

    python -m sam_mini.evaluate_baselines ANNOTATIONS.json IMAGE_FOLDER
        [--state RUN/state.safetensors]
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pictures import PIXEL_MEAN, PIXEL_STD
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from state import averaged_weights
from transformers import SamModel

from carsam.families.mini import load_sam_mini, sam_mini_config

Segmenter = Callable[[Image.Image, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Score:
    """COCO segm AP (also at IoU 0.5 and 0.75, and by object size) and mean IoU, in percent."""

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    mean_iou: float


def evaluate(segment: Segmenter, annotations: Path, images: Path) -> Score:
    """Segment every non-crowd object by its ground-truth box and compare with its mask.

    Args:
        segment: from an RGB image and boxes (N x 4: left, top, right, bottom, pixels) to masks
            (bool N x H x W) and scores (N).
        annotations: COCO json.
        images: folder of its images.
    """
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        coco = COCO(str(annotations))
        results, ious = [], []
        for image_id in coco.getImgIds():
            for annotation, mask, score in _segmented(coco, images, image_id, segment):
                code = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
                ious.append(run_lengths.iou([code], [coco.annToRLE(annotation)], [0])[0, 0])
                label = annotation["category_id"]
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": label,
                        "segmentation": code,
                        "score": score,
                    }
                )
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return Score(*(100 * float(value) for value in (*evaluation.stats[:6], np.mean(ious))))


def filled_box(image: Image.Image, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Everything inside the box; a Segmenter."""
    x, y = _pixel_centers(image)
    inside = [(x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3]) for box in boxes]
    return np.stack(inside), np.ones(len(boxes))


def inscribed_ellipse(image: Image.Image, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ellipse that touches the four sides of the box; a Segmenter."""
    x, y = _pixel_centers(image)
    masks = []
    for left, top, right, bottom in boxes:
        across = (2 * x - left - right) / max(right - left, 1e-6)
        down = (2 * y - top - bottom) / max(bottom - top, 1e-6)
        masks.append(across**2 + down**2 <= 1)
    return np.stack(masks), np.ones(len(boxes))


def sam_segmenter(model: SamModel) -> Segmenter:
    """One mask per box, with SAM's pre- and post-processing and the predicted IoU as score."""
    side = model.config.vision_config.image_size
    mean, std = np.array(PIXEL_MEAN, np.float32), np.array(PIXEL_STD, np.float32)

    @torch.inference_mode()
    def segment(image: Image.Image, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = side / max(image.size)
        width, height = (int(extent * scale + 0.5) for extent in image.size)
        pixels = (
            np.asarray(image.resize((width, height), Image.BILINEAR), np.float32) - mean
        ) / std
        padded = torch.zeros(1, 3, side, side)
        padded[0, :, :height, :width] = torch.from_numpy(pixels.transpose(2, 0, 1))
        output = model(
            image_embeddings=model.get_image_embeddings(padded),
            input_boxes=torch.from_numpy(boxes * scale).float()[None],
            multimask_output=False,
        )
        logits = torch.nn.functional.interpolate(
            output.pred_masks[0], (side, side), mode="bilinear"
        )
        size = image.size[::-1]
        masks = (
            torch.nn.functional.interpolate(logits[..., :height, :width], size, mode="bilinear") > 0
        )
        return masks[:, 0].numpy(), output.iou_scores[0, :, 0].numpy()

    return segment


def _segmented(
    coco: COCO, images: Path, image_id: int, segment: Segmenter
) -> Iterator[tuple[dict, np.ndarray, float]]:
    """Annotation, mask found and its score for every non-crowd object of an image."""
    annotations = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
    if annotations:
        image = Image.open(images / coco.loadImgs(image_id)[0]["file_name"]).convert("RGB")
        boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64)
        boxes[:, 2:] += boxes[:, :2]
        masks, scores = segment(image, boxes)
        yield from zip(annotations, masks, map(float, scores), strict=True)


def _pixel_centers(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """x (1 x width) and y (height x 1) of the middle of every pixel."""
    return np.arange(image.width)[None] + 0.5, np.arange(image.height)[:, None] + 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument(
        "--state", type=Path, help="checkpoint to evaluate instead of the packaged weights"
    )
    arguments = parser.parse_args()
    if arguments.state:
        model = SamModel(sam_mini_config())
        model.load_state_dict(averaged_weights(arguments.state), strict=False)
        model.eval()
    else:
        model = load_sam_mini()
    segmenters = {
        "filled box": filled_box,
        "ellipse": inscribed_ellipse,
        "sam-mini": sam_segmenter(model),
    }
    for name, segment in segmenters.items():
        score = evaluate(segment, arguments.annotations, arguments.images)
        numbers = " ".join(f"{key} {value:5.1f}" for key, value in vars(score).items())
        print(f"{name:10} {numbers}")


if __name__ == "__main__":
    main()

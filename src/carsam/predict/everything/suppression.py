"""Non-maximum suppression: of boxes that overlap much, the best one stays."""

import numpy as np


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the indices of the boxes that stay, best first.

    Intersections over unions are computed in float32 and compared as torchvision's `nms` does.

    Args:
        boxes: (n, 4), x0 y0 x1 y1.
        scores: (n,); of equals the first counts as better.
        threshold: a box goes if its intersection over union with a better one is larger.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    corners, ends = boxes[:, :2], boxes[:, 2:]
    areas = np.prod(ends - corners, axis=1)
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        sides = np.minimum(ends[rest], ends[best]) - np.maximum(corners[rest], corners[best])
        common = np.prod(sides.clip(min=0), axis=1)
        with np.errstate(invalid="ignore"):  # two boxes without area
            overlap = common / (areas[best] + areas[rest] - common)
        order = rest[~(overlap > threshold)]
    return np.array(kept, np.intp)

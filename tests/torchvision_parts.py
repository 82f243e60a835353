"""The five functions of torchvision that segment-anything imports, for tests without torchvision.

torchvision's CPU build is not on the package index that this project installs from, and its other
builds do not work with torch's. These are the same functions, from their documentation: what they
return for what segment-anything gives them is the same, but for speed.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from PIL import Image
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """`torchvision.ops.boxes.box_area`: areas (n,) of boxes (n, 4), x0 y0 x1 y1."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`torchvision.ops.boxes.batched_nms` for one category: indices that stay, best first."""
    assert not idxs.any()
    areas = box_area(boxes)
    order = scores.sort(stable=True, descending=True).indices.tolist()
    gone: set[int] = set()
    kept = []
    for place, best in enumerate(order):
        if best in gone:
            continue
        kept.append(best)
        for other in order[place + 1 :]:
            corner = torch.maximum(boxes[best, :2], boxes[other, :2])
            end = torch.minimum(boxes[best, 2:], boxes[other, 2:])
            common = (end - corner).clamp(min=0).prod()
            if common / (areas[best] + areas[other] - common) > iou_threshold:
                gone.add(other)
    return torch.tensor(kept, dtype=torch.int64)


def resize(image: Image.Image | Tensor, size: Sequence[int]) -> Image.Image:
    """`torchvision.transforms.functional.resize` of a Pillow image."""
    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def modules() -> dict[str, ModuleType]:
    """Return the functions in modules of torchvision's names."""
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    names += ("torchvision.transforms", "torchvision.transforms.functional")
    made = {name: ModuleType(name) for name in names}
    vars(made["torchvision.ops.boxes"]).update(batched_nms=batched_nms, box_area=box_area)
    functional = vars(made["torchvision.transforms.functional"])
    functional.update(to_pil_image=Image.fromarray, resize=resize)
    return made

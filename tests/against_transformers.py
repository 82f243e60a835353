"""What holds for every family whose images transformers' classes encode into several levels."""

from typing import Any

import torch
from torch import Tensor

from carsam.simulation.model import prepare

PROMPTS = {
    "input_points": torch.tensor([[[[30.0, 40.0], [5.0, 90.0]], [[99.0, 1.0], [7.0, 7.0]]]]),
    "input_labels": torch.tensor([[[1, 0], [1, -1]]]),
    "input_boxes": torch.tensor([[[5.0, 6, 40, 50], [20, 3, 60, 100]]]),
}


def boxes_in(side: int) -> Tensor:
    """Three boxes (1, 3, 4) in an image of so many pixels a side; the last is all of it."""
    whole = torch.tensor([[[0.0, 0, side - 1, side - 1]]])
    return torch.cat([PROMPTS["input_boxes"], whole], dim=1)


def assert_near(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    """Equal but for the order of sums in float32."""
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)


def assert_masks_are_transformers(
    family: Any, model: Any, pixels: Tensor, multimask_output: bool, atol: float = 1e-5
) -> None:
    """Masks and IoUs of points and boxes together."""
    with torch.inference_mode():
        expected = model(pixel_values=pixels, multimask_output=multimask_output, **PROMPTS)
        embedding = family.encode(model, pixels)
        masks, ious = family.decode(model, embedding, multimask_output, **PROMPTS)
    assert_near(masks, expected.pred_masks, atol)
    assert_near(ious, expected.iou_scores, atol)


def assert_prepared_is_the_same(
    family: Any, model: Any, pixels: Tensor, atol: float = 1e-5
) -> None:
    """What was made ready to be quantized computes what the original does."""
    prepared = prepare(family, model)
    with torch.inference_mode():
        embeddings = [family.encode(each, pixels) for each in (prepared, model)]
        for found, expected in zip(*embeddings, strict=True):
            assert_near(found, expected, atol)
        decoded = (
            family.decode(each, embedding, False, input_boxes=boxes_in(pixels.shape[-1]))
            for each, embedding in zip((prepared, model), embeddings, strict=True)
        )
        for found, expected in zip(*decoded, strict=True):
            assert_near(found, expected, atol)

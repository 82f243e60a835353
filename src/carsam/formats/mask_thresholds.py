"""The thresholds of everything mode that suit a model, as its manifest keeps them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from carsam.errors import UserError
from carsam.formats.model_config import short

KEY = "mask_thresholds"
"""Of the manifest."""


@dataclass(frozen=True)
class MaskThresholds:
    """The scores from which on a model's masks are good.

    Args:
        pred_iou_thresh: for the predicted IoU.
        stability_score_thresh: for the stability score.
    """

    pred_iou_thresh: float
    stability_score_thresh: float

    def to_dict(self) -> dict[str, float]:
        """Return it as the manifest keeps it."""
        return asdict(self)


METAS_THRESHOLDS = MaskThresholds(0.88, 0.95)
"""segment-anything's, chosen for its largest model."""


def read_thresholds(manifest: Mapping[str, Any]) -> MaskThresholds | None:
    """Return the thresholds that a manifest keeps; None where there are none.

    Raises:
        UserError: they are damaged.
    """
    if KEY not in manifest:
        return None
    found = manifest[KEY]
    try:
        numbers = {name: found["quantized"][name] for name in MaskThresholds.__annotations__}
    except (TypeError, KeyError, IndexError):
        numbers = {KEY: found}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 100:
            raise UserError(f"The checkpoint is damaged: its {name} is {short(number)}.")
    return MaskThresholds(**numbers)

"""What the page says of a model."""

from collections.abc import Sequence
from typing import Any

from carsam.formats.bits import Bits
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.inventory import bytes_on_disk
from carsam.formats.mask_thresholds import METAS_THRESHOLDS, MaskThresholds
from carsam.serve.segmenter import Segmenter

ARITHMETIC = {
    "float": "PyTorch, float32",
    "native": "integer arithmetic",
    "simulated": "simulated in PyTorch",
}
"""Engines by their mode, as people know them."""


def facts(segmenter: Segmenter) -> dict[str, Any]:
    """Return name, bits, arithmetic and size of a model.

    The size of a run is that of its files; of a float model, 4 bytes for each weight.
    """
    mode = segmenter.engine.mode
    about = {"name": segmenter.name, "arithmetic": ARITHMETIC.get(mode, mode)}
    if segmenter.folder is None:
        weights = segmenter.engine.module.parameters()  # type: ignore[attr-defined]
        return {**about, "bits": "32-bit float", "bytes": sum(4 * each.numel() for each in weights)}
    bits = Bits.parse(read_checkpoint(segmenter.folder).manifest["recipe"]["bits"])
    same = bits.weights == bits.activations and bits.weights is not None
    return {
        **about,
        "bits": f"{bits.weights} bits" if same else str(bits),
        "bytes": bytes_on_disk(segmenter.folder),
    }


def thresholds(segmenters: Sequence[Segmenter]) -> MaskThresholds:
    """Return those of everything mode, the same for all: what one of them recorded, or Meta's."""
    recorded = (getattr(each.engine, "mask_thresholds", None) for each in segmenters)
    return next(filter(None, recorded), METAS_THRESHOLDS)

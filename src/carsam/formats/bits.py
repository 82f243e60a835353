"""How many bits every site of a model has: a width for all, exceptions, and what stays float."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from carsam.errors import UserError

FLOAT_KINDS = (
    "encoder.patch_embedding",
    "prompt_encoder",
    "decoder.mask_upscaling",
    "decoder.hypernetwork",
    "decoder.iou_head",
    "decoder.object_score_head",
    "memory_encoder.mask_input",
)
"""Kinds that stay float unless a rule says otherwise, as in the papers."""


@dataclass(frozen=True)
class Bits:
    """Bits of weights and activations, 2 to 8; None keeps them in float."""

    weights: int | None
    activations: int | None

    def __post_init__(self) -> None:
        for name, bits in (("weights", self.weights), ("activations", self.activations)):
            if bits is not None and not 2 <= bits <= 8:
                raise UserError(f"{bits} bits for {name}; 2 to 8 are possible, or 32 for float.")

    @classmethod
    def parse(cls, text: str) -> "Bits":
        """Read `w4a4`, `w4a8`, `w4a32` (activations in float) or `float`."""
        if text == "float":
            return cls(None, None)
        match = re.fullmatch(r"w(\d+)a(\d+)", text.lower())
        if match is None:
            raise UserError(f'Bits "{text}" are not understood; write for example w4a4, or float.')
        weights, activations = (None if int(b) == 32 else int(b) for b in match.groups())
        return cls(weights, activations)

    @property
    def size(self) -> tuple[int, int]:
        """Bits of a weight and an activation together, then of the weight: the order of widths."""
        weights, activations = self.weights or 32, self.activations or 32
        return weights + activations, weights

    def __str__(self) -> str:
        if self.weights is None and self.activations is None:
            return "float"
        return f"w{self.weights or 32}a{self.activations or 32}"


@dataclass(frozen=True)
class Rule:
    """Bits for the sites whose module path or kind fits an fnmatch pattern."""

    match: str
    bits: Bits

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read `encoder.mlp=w8a8` or `vision_encoder.layers.0.*=float`."""
        match, separator, bits = text.rpartition("=")
        if not separator or not match:
            raise UserError(
                f'Rule "{text}" is not understood; write PATTERN=BITS, as in encoder.mlp=w8a8.'
            )
        return cls(match, Bits.parse(bits))

    def fits(self, path: str, kind: str) -> bool:
        """Tell whether this rule speaks of the site at a module path, of a kind."""
        return fnmatchcase(path, self.match) or fnmatchcase(kind, self.match)

    def __str__(self) -> str:
        return f"{self.match}={self.bits}"


def bits_of_site(bits: Bits, rules: Iterable[Rule], path: str, kind: str) -> Bits:
    """Return the bits of the site at a module path, of a kind.

    Args:
        bits: of every site that is not of `FLOAT_KINDS`.
        rules: exceptions; of those that fit, the last one holds.
    """
    found = Bits(None, None) if kind in FLOAT_KINDS else bits
    for rule in rules:
        if rule.fits(path, kind):
            found = rule.bits
    return found

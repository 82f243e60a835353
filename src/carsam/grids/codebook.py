"""A grid whose few values are chosen among the 256 of a fine uniform grid."""

from collections.abc import Iterator

import torch
from torch import Tensor

from carsam.grids.base import Grid, pass_straight
from carsam.grids.fused import ListedRounding, Rounding

FINE_LEVELS = 255


class CodebookGrid(Grid):
    """2**bits values out of 256 uniform ones: value(c) = (entries[c] - zero_point) * scale.

    A value is rounded to the fine grid first, and from there to the nearest entry, halfway to the
    lower. Integer products multiply the entries, which are bytes, as they multiply the codes of an
    8-bit grid; between rounding and product lies no more than a table of 256 bytes.

    Args:
        scale: step of the fine grid, (1,).
        zero_point: fine code of the value 0; it should be an entry, (1,).
        entries: ascending fine codes, in [0, 255]; what is not needed repeats another, (2**bits,).
        bits: 2 to 8.

    Raises:
        ValueError: there are other than 2**bits entries.
    """

    name = "codebook"
    zero_point: Tensor
    entries: Tensor
    _code_of: Tensor
    _step_of: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor, entries: Tensor, bits: int) -> None:
        super().__init__(scale, bits)
        if entries.shape != (2**bits,):
            raise ValueError(f"{len(entries)} entries in a codebook of {bits} bits.")
        self.register_buffer("zero_point", zero_point.float())
        self.register_buffer("entries", entries.float())
        fine = torch.arange(FINE_LEVELS + 1, device=scale.device, dtype=torch.float32)
        code_of = torch.bucketize(fine, (self.entries[1:] + self.entries[:-1]) / 2)
        self.register_buffer("_code_of", code_of.float(), persistent=False)
        steps = self.entries[code_of] - self.zero_point
        self.register_buffer("_step_of", steps, persistent=False)

    @property
    def largest_step(self) -> float:
        """Largest magnitude of an entry less the zero point."""
        return float((self.entries - self.zero_point).abs().max())

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes of `values`, as float32 integers in [0, levels]."""
        return _looked_up(self._code_of, self._fine(values * (1.0 / self.scale)))

    def steps(self, values: Tensor) -> Tensor:
        """Return the entries of `values` less the zero point, as float32 integers."""
        return _looked_up(self._step_of, self._fine(values * (1.0 / self.scale)))

    def integer_parts(self, values: Tensor) -> Iterator[tuple[Tensor, slice | Tensor, Tensor]]:
        """Yield integers, the columns of a weight that they meet, and what an integer is worth."""
        yield self.steps(values), slice(None), self.scale

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for."""
        return (self.entries[codes.long()] - self.zero_point) * self.scale

    def forward(self, values: Tensor) -> Tensor:
        """Return each value's neighbour on the grid."""
        return self.steps(values) * self.scale

    def soft_in_steps(self, values: Tensor, factor: Tensor) -> Tensor:
        """Round; the scale's gradient holds codes fixed, values pass straight through in range."""
        scale = self.scale * factor
        steps = _looked_up(self._step_of, self._fine(values.detach() * (1.0 / scale.detach())))
        low, high = ((self.entries[end] - self.zero_point) * scale.detach() for end in (0, -1))
        return pass_straight(steps * scale, values, low, high)

    def rounding(self, factor: Tensor) -> Rounding | None:
        """Describe it to the kernels: fine steps are compared with the middles."""
        scale = self.scale * factor
        table = (self.entries - self.zero_point) * scale
        middles = (self.entries[1:] + self.entries[:-1]) / 2 - self.zero_point
        low, high = (float(end) for end in table.detach()[[0, -1]])
        return ListedRounding(table, middles, low, high, float(1.0 / scale.detach()))

    def check_integers(self, integers: Tensor) -> tuple[int, bool]:
        """Return how many distinct integers there are, and whether all are `steps` of entries."""
        distinct = integers.unique()
        known = (self.entries - self.zero_point).to(distinct)
        return len(distinct), bool(torch.isin(distinct, known).all())

    def _fine(self, steps: Tensor) -> Tensor:
        """Return the fine codes of values in steps of the scale."""
        return (steps.round() + self.zero_point).clamp_(0, FINE_LEVELS)


def _looked_up(table: Tensor, fine: Tensor) -> Tensor:
    return table.index_select(0, fine.int().flatten()).view(fine.shape)

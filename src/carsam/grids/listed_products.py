"""Products of probabilities, rounded to many grids of listed values, and the same values."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from carsam.grids.kernels import pointer, takes, training
from carsam.grids.tables import TableGrid

KEYS_PER_PLACE = 4
"""With fewer keys it takes less time to round to one grid after the other."""


class ListedProducts:
    """A^ V for each of some grids, with one pass over the probabilities A.

    All grids' middles between neighbouring listed values together cut the numbers into places; on
    one place every grid has one value. So the values V of the keys whose probabilities have the
    same place are added up, and each grid weighs these sums.

    Args:
        grids: of A.
    """

    def __init__(self, grids: Sequence[TableGrid]) -> None:
        listed = [grid.rounding(torch.ones_like(grid.scale)) for grid in grids]
        self._middles = torch.cat([each.middles for each in listed]).unique()
        below = F.pad(self._middles, (1, 0), value=float("-inf"))
        self._tables = torch.stack(  # (grids, places)
            [each.table[torch.searchsorted(each.middles, below, right=True)] for each in listed]
        )

    def takes(self, probabilities: Tensor) -> bool:
        """Tell whether there are kernels for A, and keys enough."""
        return takes(probabilities) and probabilities.shape[-1] >= KEYS_PER_PLACE * len(
            self._tables.T
        )

    def __call__(self, probabilities: Tensor, values: Tensor) -> Tensor:
        """Return (batch, heads, rows, grids, d).

        Args:
            probabilities: A (batch, heads, rows, keys).
            values: V (batch or 1, heads, keys, d).
        """
        numbers = probabilities.flatten(0, 1).contiguous()
        values = values.expand(len(probabilities), -1, -1, -1).flatten(0, 1).contiguous()
        places = self._tables.shape[1]
        sums = numbers.new_empty(*numbers.shape[:2], places, values.shape[-1])
        training.place_sums(
            pointer(numbers), pointer(self._middles), pointer(values), pointer(sums)
        )
        return (self._tables @ sums).unflatten(0, probabilities.shape[:2])

"""Who attends to whom, and where: the index arrays and tables of attention."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from carsam.runtime.functions import LANES
from carsam.runtime.patches import window_rows


@dataclass(frozen=True)
class TokenMap:
    """Which rows of the operands attend to each other, for B independent groups of tokens.

    Args:
        query_rows: (B, Q) int32, rows of the query; a query of row -1 is skipped.
        key_rows: (B, T) int32, rows of key and value.
        output_rows: (B, Q) int32, rows of the result; not read where the query is skipped.
        outputs: rows of the result.
    """

    query_rows: np.ndarray
    key_rows: np.ndarray
    output_rows: np.ndarray
    outputs: int

    @staticmethod
    def of_windows(size: int, window: int) -> "TokenMap":
        """Windows of a size x size image, from its top left corner.

        Places beyond the image are keys of row size * size, and their queries are skipped.
        """
        return TokenMap.of_pooled_windows((size, size), window, 1)

    @staticmethod
    def of_pooled_windows(size: tuple[int, int], window: int, stride: int) -> "TokenMap":
        """Windows of an image of this height and width whose queries are pooled.

        Each query stands for stride x stride tokens; `stride` divides height, width and `window`.
        Places beyond the image are keys of row height * width, and their queries are skipped.
        """
        pooled = size[0] // stride, size[1] // stride
        keys = window_rows(size, window, size[0] * size[1])
        queries = window_rows(pooled, window // stride, -1)
        return TokenMap(queries, keys, queries, pooled[0] * pooled[1])

    @staticmethod
    def of_groups(groups: int, queries: tuple[int, int], keys: tuple[int, int]) -> "TokenMap":
        """`groups` groups of tokens that stand one after another.

        Groups that share their keys but no queries are one group.

        Args:
            queries: groups of queries, `groups` or 1 if all share them, and queries in each.
            keys: the same for keys.
        """
        if keys[0] == 1 and queries[0] == groups:
            groups, queries = 1, (1, groups * queries[1])
        query_rows = _group_rows(groups, *queries)
        output_rows = _group_rows(groups, groups, queries[1])
        return TokenMap(query_rows, _group_rows(groups, *keys), output_rows, groups * queries[1])


@dataclass(frozen=True)
class RelativePositions:
    """Decomposed relative positions of a square of keys, which are also the queries.

    The tables are reversed and transposed: entry [d, size - 1 - i + j] belongs to query
    coordinate i and key coordinate j. Entries are float16 numbers, as a checkpoint holds them, so
    that their products with codes are exact.

    Args:
        size: side of the square of tokens; the tokens are its rows, one after another.
        rows: (head_dim, at least size - 1 + size rounded up to 16) float32.
        columns: the same, of the other axis.
    """

    size: int
    rows: np.ndarray
    columns: np.ndarray

    @staticmethod
    def from_tables(rows: np.ndarray, columns: np.ndarray) -> "RelativePositions":
        """Build from SAM's (2 * size - 1, head_dim) tables `rel_pos_h` and `rel_pos_w`."""
        size = (len(rows) + 1) // 2

        def rearrange(table: np.ndarray) -> np.ndarray:
            width = size - 1 + ceil(size / LANES) * LANES
            padded = np.zeros((table.shape[1], width), np.float32)
            padded[:, : 2 * size - 1] = table[::-1].T
            return padded

        return RelativePositions(size, rearrange(rows), rearrange(columns))


@lru_cache(maxsize=64)
def _group_rows(groups: int, given: int, length: int) -> np.ndarray:
    """(groups, length) rows of `given` groups, repeated if there is one only; not to be changed."""
    rows = np.arange(given * length, dtype=np.int32).reshape(given, length)
    repeated = np.ascontiguousarray(np.broadcast_to(rows, (groups, length)))
    repeated.flags.writeable = False
    return repeated

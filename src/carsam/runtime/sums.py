"""How many products of codes the 32-bit sums of the kernels hold."""

from carsam.errors import UnsupportedError
from carsam.runtime.grids import CodeGrid, Codes, Tensor
from carsam.runtime.softmax_grids import RowMaximumCodes, SoftmaxGrid
from carsam.runtime.tables import CodeTable

LARGEST_SUM = (1 << 31) - 1

MOST_COLUMNS = 1 << 15
"""Inputs of a linear layer: products of so many codes of 8 bits fit, whatever they are."""


def most_products(left_bits: int, right_bits: int) -> int:
    """Return how many products of codes, each less its zero point, fit whatever they are.

    With a, b the codes, y, z their zero points and h half of the codes b, kernels add up
    a (b - h), y (z - b) and a (z - h). Each of them, and each sum of them on the way to
    (a - y)(b - z), is at most the product of the two highest codes.
    """
    return LARGEST_SUM // (((1 << left_bits) - 1) * ((1 << right_bits) - 1))


def check_attention(
    query: CodeGrid | None,
    key: CodeGrid | None,
    probabilities: SoftmaxGrid | None,
    value: CodeGrid | None,
    head_dim: int,
    keys: int,
    name: str = "An attention",
) -> None:
    """Refuse an attention whose sums of integers might not fit.

    Args:
        query, key, probabilities, value: the grids; a product with an operand that has none is
            computed in float.
        head_dim: channels of a head.
        keys: that a query attends to.
        name: of the attention, for the message.

    Raises:
        UnsupportedError: naming what does not fit and how much would.
    """
    if query is not None and key is not None:
        _check(name, head_dim, "channels of a head", (query.bits, "query"), (key.bits, "key"))
    if probabilities is not None and value is not None:
        left = (_bits(probabilities), "probability")
        _check(name, keys, "keys", left, (value.bits, "value"))


def grid_of(tensor: Tensor) -> CodeGrid | None:
    """Return the grid of a tensor of codes, None for values."""
    return tensor.grid if isinstance(tensor, Codes) else None


def _check(name: str, count: int, what: str, left: tuple[int, str], right: tuple[int, str]) -> None:
    most = most_products(left[0], right[0])
    if count > most:
        raise UnsupportedError(
            f"{name} has {count} {what}; with {left[0]}-bit {left[1]} codes and {right[0]}-bit "
            f"{right[1]} codes the sums of the native engine hold at most {most}. Use fewer bits "
            "or a smaller image, or --engine simulated."
        )


def _bits(probabilities: SoftmaxGrid) -> int:
    """Return the bits of what values are multiplied by in integers."""
    if isinstance(probabilities, CodeTable):
        return 1  # the values of each listed probability are added up apart
    return 8 if isinstance(probabilities, RowMaximumCodes) else probabilities.bits

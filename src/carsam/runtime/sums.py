"""How many products of codes the 32-bit sums of the kernels hold.

Attention adds up more products of probabilities and values in parts, whose sums it adds up in
float64; `csrc/attention_kernel.h`.
"""

from carsam.errors import UnsupportedError
from carsam.runtime.grids import CodeGrid, Codes, Tensor
from carsam.runtime.softmax_grids import RowMaximumCodes, SoftmaxGrid
from carsam.runtime.tables import CodeTable

LARGEST_SUM = (1 << 31) - 1

MOST_COLUMNS = 1 << 15
"""Inputs of a linear layer: products of so many codes of 8 bits fit, whatever they are."""


def most_products(left_bits: int, right_bits: int = 1) -> int:
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
        left, right = (_bits(probabilities), "probability"), (value.bits, "value")
        if isinstance(probabilities, CodeGrid) and probabilities.zero_point != 0:
            _check(name, keys, "keys", left, right)
        else:  # products are added up in parts, so that only sums of codes have to fit
            _check(name, keys, "keys", max(left, right))


def keys_of_one_sum(probabilities: SoftmaxGrid, value: CodeGrid) -> int:
    """Return how many keys' products of probabilities and values fit one sum of 32 bits."""
    return most_products(_bits(probabilities), value.bits)


def grid_of(tensor: Tensor) -> CodeGrid | None:
    """Return the grid of a tensor of codes, None for values."""
    return tensor.grid if isinstance(tensor, Codes) else None


def _check(name: str, count: int, what: str, *factors: tuple[int, str]) -> None:
    """Refuse a sum over so many products of factors of some bits, or over one factor alone."""
    most = most_products(*(bits for bits, _ in factors))
    if count > most:
        codes = " and ".join(f"{bits}-bit {operand} codes" for bits, operand in factors)
        raise UnsupportedError(
            f"{name} has {count} {what}; with {codes} the sums of the native engine hold at most "
            f"{most}. Use fewer bits or a smaller image, or --engine simulated."
        )


def _bits(probabilities: SoftmaxGrid) -> int:
    """Return the bits of what values are multiplied by in integers."""
    if isinstance(probabilities, CodeTable):
        return 1  # the values of each listed probability are added up apart
    return 8 if isinstance(probabilities, RowMaximumCodes) else probabilities.bits

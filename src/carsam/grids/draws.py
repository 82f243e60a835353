"""Random masks that need no memory: each element's number follows from a seed and its place.

The kernels of training draw the same masks while they round, forward and again backward
(`where_kept` in `csrc/masks.h`), so a mask depends neither on threads nor on where it is made.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from carsam.grids.kernels import pointer, takes, training

_FIRST_FACTOR, _SECOND_FACTOR = 0x21F0AAAD, 0xD35A2D97
"""Of a 32-bit mixing function (C. Wellons, "Prospecting for Hash Functions")."""


@dataclass(frozen=True)
class Draw:
    """Takes each element of a tensor with a probability.

    Args:
        seed: 64 random bits; masks of neighbouring seeds may resemble each other.
        probability: from 0 up to, but not, 1.
    """

    seed: int
    probability: float

    @classmethod
    def of(cls, probability: float, generator: torch.Generator) -> "Draw | None":
        """Return the next draw of a generator; None takes all, where the probability is 1."""
        if probability >= 1.0:
            return None
        seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
        return cls(int(seed), probability)

    @property
    def keys(self) -> tuple[int, int]:
        """Seed and bound: an element is taken if its number, of 32 bits with sign, is below."""
        return self.seed, min(round(2**32 * self.probability), 2**32 - 1) - 2**31

    def mask(self, like: Tensor) -> Tensor:
        """Return the mask of the shape of `like`, True where an element is taken."""
        seed, bound = self.keys
        numbers = torch.arange(like.numel(), dtype=torch.int32, device=like.device)
        numbers ^= _signed(seed & 0xFFFFFFFF)
        numbers ^= _shifted(numbers, 16)
        numbers *= _signed(_FIRST_FACTOR)
        numbers += _signed(seed >> 32)
        numbers ^= _shifted(numbers, 15)
        numbers *= _signed(_SECOND_FACTOR)
        numbers ^= _shifted(numbers, 15)
        return (numbers < bound).view(like.shape)


def mixed(first: Tensor, second: Tensor, draw: Draw | None) -> Tensor:
    """Return the elements of `second` that are taken, and the others of `first`."""
    if draw is None:
        return second
    if not (takes(first) and takes(second)):
        return torch.where(draw.mask(first), second, first)
    first, second = first.contiguous(), second.contiguous()
    result = torch.empty_like(first)
    training.mix(pointer(first), pointer(second), draw.keys, pointer(result))
    return result


def _signed(bits: int) -> int:
    """Return 32 bits as a number with sign."""
    return bits - 2**32 if bits >= 2**31 else bits


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Shift 32 bits to the right; zeros follow."""
    return (numbers >> bits).bitwise_and_(2 ** (32 - bits) - 1)

"""What the inputs of a layer have in common in all images, taken out before they are rounded.

    x W' = (x - c) W' + c W'

c W' is a table that stays float, as a bias does. Only x - c is rounded, which varies less than x.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from carsam.families.base import Constant
from carsam.families.sam.decoding import image_positions
from carsam.runtime.centred import map_table
from carsam.simulation.stored import as_stored


class TokenCentre(nn.Module):
    """A mean for each of the decoder's own tokens, and one that the tokens of prompts share.

    Args:
        means: (R, K), of R - 1 own tokens and of all others.
        table: (R, N), what the layer makes of them.
    """

    name = Constant.TOKENS
    parts = ("means", "table")

    def __init__(self, means: Tensor, table: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(as_stored(means), requires_grad=False)
        self.table = nn.Parameter(as_stored(table), requires_grad=False)

    @classmethod
    def of(cls, means: Tensor, weight: Tensor) -> "TokenCentre":
        """Return the centre of a layer of weight (N, K)."""
        means = as_stored(means)
        return cls(means, (means.double() @ weight.double().T).float())

    def removed_from(self, inputs: Tensor) -> Tensor:
        """Return inputs (..., T, K) without the means of their tokens."""
        return inputs - self.means[self._places(inputs)]

    def product(self, inputs: Tensor) -> Tensor:
        """Return what was removed from inputs (..., T, K), multiplied: (T, N)."""
        return self.table[self._places(inputs)]

    def _places(self, inputs: Tensor) -> Tensor:
        tokens = torch.arange(inputs.shape[-2], device=inputs.device)
        return tokens.clamp(max=len(self.means) - 1)


class PlaceCentre(nn.Module):
    """The positions that were added to the tokens of an image.

    Args:
        weight: (N, K), that they are multiplied with.
        positions: (h * w, K).
    """

    name = Constant.PLACES
    parts = ("weight",)
    positions: Tensor
    table: Tensor

    def __init__(self, weight: Tensor, positions: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(as_stored(weight), requires_grad=False)
        self.register_buffer("positions", positions, persistent=False)
        table = (positions.double() @ self.weight.double().T).float()
        self.register_buffer("table", table, persistent=False)

    def removed_from(self, inputs: Tensor) -> Tensor:
        """Return inputs (..., h * w, K) without their positions."""
        return inputs - self.positions

    def product(self, _: Tensor) -> Tensor:
        """Return the positions multiplied, (h * w, N)."""
        return self.table


class ChannelCentre(nn.Module):
    """A mean for each channel of the map that a convolution of stride 1 reads, padded with zeros.

    The zeros are not moved: near the border fewer taps read the mean.

    Args:
        means: (K,).
        taps: (S * S, N), what each tap of a convolution of side S makes of the means.
    """

    name = Constant.CHANNELS
    parts = ("means", "taps")

    def __init__(self, means: Tensor, taps: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(as_stored(means), requires_grad=False)
        self.taps = nn.Parameter(as_stored(taps), requires_grad=False)

    @classmethod
    def of(cls, means: Tensor, weight: Tensor) -> "ChannelCentre":
        """Return the centre of a convolution of weight (N, K, S, S)."""
        means = as_stored(means)
        taps = torch.einsum("nkyx,k->yxn", weight.double(), means.double())
        return cls(means, taps.flatten(0, 1).float())

    def removed_from(self, inputs: Tensor) -> Tensor:
        """Return inputs (B, K, h, w) without the means."""
        return inputs - self.means[:, None, None]

    def product(self, inputs: Tensor) -> Tensor:
        """Return what was removed from inputs (B, K, h, w), multiplied: (N, h, w) or (N, 1, 1)."""
        if len(self.taps) == 1:  # no border is near
            return self.taps[0, :, None, None]
        height, width = inputs.shape[2:]
        table = map_table(self.taps.detach().cpu().numpy(), height, width)
        return torch.from_numpy(table).to(inputs).unflatten(0, (height, width)).permute(2, 0, 1)


Centre = TokenCentre | PlaceCentre | ChannelCentre

KINDS: tuple[Any, ...] = (TokenCentre, PlaceCentre, ChannelCentre)


def load_centres_(model: Any, names: Mapping[str, str], tensor: Callable[[str], Tensor]) -> None:
    """Give layers their centres again.

    Args:
        model: its other parameters are loaded.
        names: of the centres' kinds, `formats.manifest.CENTRES`, by the layers' paths.
        tensor: returns a parameter of a centre by its name in the model.
    """
    positions = image_positions(model)[0, 0] if names else None
    for path, name in names.items():
        kind = next(kind for kind in KINDS if kind.name == name)
        parts = [tensor(f"{path}.centre.{part}") for part in kind.parts]
        placed = [positions] if kind is PlaceCentre else []
        model.get_submodule(path).centre = kind(*parts, *placed)

"""Whether tensors are those of a model: all of them, no others, of the right shape and type."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from carsam.errors import UserError, few
from carsam.images.preprocess import PIXEL_MEAN, PIXEL_STD

NUMBERS = ("integers", "complex numbers", "sparse tensors")
"""What no weight consists of."""


def match(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    names: Mapping[str, str],
    origin: str,
) -> dict[str, Tensor]:
    """Return a model's tensors, picked from a file.

    Args:
        expected: the model's state dict, perhaps without values.
        state: the file's tensors.
        names: name in the model -> name in the file, of every tensor expected.
        origin: the file's name, for messages.

    Raises:
        UserError: tensors are missing, unknown, of another shape or not of floating point.
    """
    known = {*names.values(), "pixel_mean", "pixel_std"}
    _refuse(origin, "lacks", (name for name in names.values() if name not in state))
    _refuse(origin, "has the unknown", (name for name in state if name not in known))
    found = {name: state[source] for name, source in names.items()}
    for kind in NUMBERS:
        same = (name for name, tensor in found.items() if _kind(tensor) == kind)
        _refuse(origin, f"has {kind} as", (names[name] for name in same))
    _refuse(
        origin,
        "has a wrong shape of",
        (
            f"{names[name]} (found {tuple(tensor.shape)}, expected {tuple(expected[name].shape)})"
            for name, tensor in found.items()
            if tensor.shape != expected[name].shape
        ),
    )
    _check_normalisation(state, origin)
    return found


def fill_(model: Any, tensors: Mapping[str, Tensor], names: Mapping[str, str], origin: str) -> Any:
    """Give a model without values copies of tensors, in float32, and return it.

    Args: as of `match`, `tensors` being what it returned.

    Raises:
        UserError: a tensor has no values, or one that is not finite.
    """
    copies = {}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise UserError(
                f"{origin} holds no values of {names[name]}, only its shape (it was saved from the "
                "meta device). Save the model after its weights are loaded."
            )
        copies[name] = tensor.to(torch.float32, copy=True)  # outlives the file
        if not bool(torch.isfinite(copies[name]).all()):
            raise UserError(
                f"{origin} holds NaN or infinity in {names[name]}; its weights are damaged."
            )
    model.load_state_dict(copies, assign=True)
    model.tie_weights()
    return model.eval()


def _check_normalisation(state: Mapping[str, Tensor], origin: str) -> None:
    """Refuse weights that were trained with other pixel statistics than SAM's."""
    for name, expected in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):
        if name in state and not state[name].is_meta:
            found = state[name].flatten()
            # Half precision rounds the numbers.
            if not torch.equal(found, torch.from_numpy(expected).flatten().to(found.dtype)):
                raise UserError(
                    f"{origin} has {name} {found.tolist()}; expected SAM's "
                    f"{expected.flatten().tolist()}, the only ones that are supported."
                )


def _kind(tensor: Tensor) -> str:
    """Return the entry of `NUMBERS` that describes a tensor; "" for a usable one."""
    if tensor.layout is not torch.strided:
        return "sparse tensors"
    if tensor.is_complex():
        return "complex numbers"
    return "" if tensor.is_floating_point() else "integers"


def _refuse(origin: str, fault: str, names: Iterable[str]) -> None:
    listed = list(names)
    if listed:
        raise UserError(
            f"{origin} {fault} {few(listed)}; expected the tensors of one SAM, all of them and "
            "no others, in floating point."
        )

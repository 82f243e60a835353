"""Reading a file of weights, whoever saved it: all tensors in it, by name.

A file is known by its content; its ending does not matter. Nothing in it is ever executed.
"""

import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from carsam.errors import UserError, few
from carsam.formats.failed_downloads import read_head

ADVICE = "Give the state dict of a SAM, as torch.save(model.state_dict(), path) writes it."

TRAINING_STATE = re.compile(r"optimi[sz]er|^optim(s|_.*)?$|schedul|scaler|exp_avg", re.IGNORECASE)
"""Keys under which training scripts keep tensors that are no weights."""


@dataclass(frozen=True)
class Contents:
    """What a file of weights holds.

    Args:
        tensors: by name; mappings within mappings give dotted names.
        holders: tensor's name -> dotted name of the mapping that it stands in, "" at the top.
        keys: names at the top, of tensors or not.
        classes: of the objects beside the tensors that were not read.
        whole_model: there is a pickled model among these objects.
    """

    tensors: dict[str, Tensor]
    holders: dict[str, str]
    keys: tuple[str, ...]
    classes: tuple[str, ...] = ()
    whole_model: bool = False


def read_contents(path: Path) -> Contents:
    """Read a file of torch or safetensors; the tensors are views of the file where it allows that.

    Raises:
        UserError: it is neither, or damaged, or what it holds has no names.
    """
    head = read_head(path)
    text = " ".join(head.decode("ascii", "replace").split())
    if head.isascii() and text.isprintable():
        raise UserError(f"Cannot read {path}: it is a text, which begins {text[:60]!r}. {ADVICE}")
    if head[8:9] == b"{":  # after the length of the header of safetensors, which is JSON
        return _read_safetensors(path)
    return _read_torch(path, zipped=_is_torch_zip(path, head))


def _read_safetensors(path: Path) -> Contents:
    try:
        tensors = load_file(path)
    except Exception as error:  # torch and safetensors raise several types
        raise UserError(
            f"Cannot read {path}: it is damaged or cut off ({error}). Copy or download it again."
        ) from error
    return Contents(tensors, dict.fromkeys(tensors, ""), tuple(tensors))


def _is_torch_zip(path: Path, head: bytes) -> bool:
    """Tell torch's zip format from its older one.

    Raises:
        UserError: it is a zip of something else, or cut off.
    """
    if not zipfile.is_zipfile(path):
        if head.startswith(b"PK\x03\x04"):
            raise UserError(
                f"Cannot read {path}: it is cut off, because its end, the list of what it holds, "
                "is missing. Copy or download it again."
            )
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        raise UserError(f"Cannot read {path}: it is a TorchScript program. {ADVICE}")
    if not any(name.endswith("data.pkl") for name in names):
        raise UserError(
            f"Cannot read {path}: it is a zip file of {few(names) or 'nothing'}, not a file of "
            "torch. If the weights are in it, unpack it and give them."
        )
    return True


def _read_torch(path: Path, zipped: bool) -> Contents:
    classes: list[str] = []
    try:
        if zipped:
            classes = sorted(get_unsafe_globals_in_checkpoint(path), key=_by_interest)
        # Only torch's zip format can be mapped, and torch takes one ending for another format.
        mapped = zipped and path.suffix.lower() != ".safetensors"
        with safe_globals([(_stand_in(name), name) for name in classes]), path.open("rb") as file:
            content = torch.load(
                path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped
            )
    except Exception as error:  # the unpickler raises almost any type on foreign bytes
        beside = f", such as {few(classes)}" if classes else ", such as a whole model"
        raise UserError(
            f"Cannot read {path}: it is damaged, no file of torch, or holds objects{beside}, which "
            f"are never loaded, because that could run any program. {ADVICE}"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(
            f"Found a {type(content).__name__} in {path}; expected a state dict. {ADVICE}"
        )
    found = list(_tensors(content))
    return Contents(
        {name: tensor for name, _, tensor in found},
        {name: holder for name, holder, _ in found},
        tuple(str(key) for key in content),
        tuple(classes),
        any(_is_whole_model(value) for value in (content, *content.values())),
    )


def _tensors(content: Mapping[Any, Any], holder: str = "") -> Iterator[tuple[str, str, Tensor]]:
    """Yield the name, the mapping's name and the value of every tensor."""
    for key, value in content.items():
        name = f"{holder}.{key}" if holder else str(key)
        if isinstance(value, Tensor):
            yield name, holder, value.detach()
        elif isinstance(value, Mapping) and not TRAINING_STATE.search(str(key)):
            yield from _tensors(value, name)


def _by_interest(name: str) -> tuple[bool, str]:
    return name.startswith("torch."), name


class _Ignored:
    """Takes the place of an object that is not loaded; whatever it is given is dropped."""

    def __new__(cls, *_: object) -> "_Ignored":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None: ...


class _IgnoredMapping:
    """As `_Ignored`, of a class that may be a mapping: torch fills and sets only plain ones."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


def _stand_in(name: str) -> type:
    """Return what to build instead of a class or function that torch does not load by itself.

    Training scripts keep numpy's numbers, options, paths and more beside the weights. None of it
    is needed, so it need not be trusted either.
    """
    return _Ignored if name.startswith("numpy.") else _IgnoredMapping


def _is_whole_model(value: object) -> bool:
    """Tell whether a stand-in was given the state of a module."""
    return isinstance(value, OrderedDict) and "_modules" in vars(value)

"""Models by their Hugging Face id, from the local cache or the network."""

from pathlib import Path

from huggingface_hub import constants
from transformers.utils import cached_file

from carsam.errors import UserError
from carsam.families.float_weights import shards
from carsam.formats.model_paths import (
    ADAPTER_ADVICE,
    ADAPTER_FILE,
    CONFIG_FILE,
    PRETRAINED_FILES,
)


def fetch(name: str) -> Path:
    """Return the folder in the local cache with configuration and weights of an id.

    Raises:
        UserError: it cannot be reached, or holds no model.
    """
    config = _file(name, CONFIG_FILE)
    if _file(name, ADAPTER_FILE) is not None:
        raise UserError(f"{name} holds adapters (LoRA, {ADAPTER_FILE}). {ADAPTER_ADVICE}")
    if config is None:
        raise UserError(_not_found(name))
    for weights in PRETRAINED_FILES:
        path = _file(name, weights)
        if path is not None:
            for shard in shards(path) if path.suffix == ".json" else ():
                _file(name, shard)
            return path.parent
    raise UserError(
        f"{name} has no weights that could be fetched or are in the local cache; expected "
        f"{PRETRAINED_FILES[0]} or {PRETRAINED_FILES[2]}.{_offline()}"
    )


def _file(name: str, file: str) -> Path | None:
    try:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    except Exception as error:  # of the network, of the hub, of the cache
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{_not_found(name)} ({reason})") from error
    return None if path is None else Path(path)


def _not_found(name: str) -> str:
    return (
        f"There is no folder {name}, and as a Hugging Face id it is neither in the local cache "
        f"({constants.HF_HUB_CACHE}) nor could it be fetched.{_offline()} Check the spelling, or "
        "download the model and give its folder."
    )


def _offline() -> str:
    return " HF_HUB_OFFLINE forbids the network." if constants.HF_HUB_OFFLINE else ""

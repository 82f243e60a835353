"""Float models from what users have: a file of weights, or a folder of transformers."""

import json
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from transformers import AutoConfig

from carsam.errors import UserError, few
from carsam.families.meta_weights import (
    convert_meta_state_dict,
    meta_names,
    refuse_other_models,
)
from carsam.families.mini import sam_mini_config
from carsam.families.registry import empty_model
from carsam.families.sam2.weights import is_sam2, load_sam2
from carsam.families.sam3_tracker import weights as sam3_weights
from carsam.families.sam_geometry import DECODER_HEADS, infer_config
from carsam.families.weight_checks import fill_, match
from carsam.families.weight_files import Contents, read_contents
from carsam.families.weight_names import find_sam
from carsam.formats.failed_downloads import read_head
from carsam.formats.model_paths import CONFIG_FILE, PRETRAINED_FILES

Warn = Callable[[str], object]

NORM_EPSILON = 1e-6  # transformers' in the decoder, where segment-anything has another
SAM2_TYPES = ("sam2", "sam2_video")
RELEASED_WIDTH = 256  # of the decoder of every released SAM


def load_file(path: Path, warn: Warn) -> Any:
    """Load a file of weights under the names of segment-anything, SAM-HQ or transformers.

    Args:
        warn: told what was left out or assumed.

    Raises:
        UserError: it cannot be read, or its tensors are not those of one SAM.
    """
    origin = str(path)
    state = find_sam(read_contents(path), origin, warn)
    if is_sam2(state):
        return load_sam2(state, _model_beside(path, SAM2_TYPES), origin, warn)
    refuse_other_models(state, origin)
    if _has_transformers_names(state):
        model = _model_beside(path, ("sam", "sam_hq")) or _inferred_model(state, origin, warn)
        return _filled(model, state, origin)
    config, tensors = convert_meta_state_dict(state, origin)
    return fill_(empty_model(config), tensors, meta_names(tensors), origin)


def load_folder(folder: Path, config: Any, warn: Warn) -> Any:
    """Load a folder of transformers.

    Unlike transformers' own loading this leaves nothing to chance: what does not fit is refused
    where transformers draws random numbers, and the prefixes of training wrappers are taken off.

    Args:
        config: what `read_config` returned.
        warn: told what was left out.

    Raises:
        UserError: its weights cannot be read, or are not those that its configuration asks for.
    """
    tensors: dict[str, Tensor] = {}
    holders: dict[str, str] = {}
    for path in _weight_files(folder):
        contents = read_contents(path)
        tensors |= contents.tensors
        holders |= contents.holders
    origin = config.name_or_path
    contents = Contents(tensors, holders, tuple(tensors))
    if config.model_type in sam3_weights.TYPES:
        contents = sam3_weights.tracker_contents(contents, config.model_type, origin, warn)
    state = find_sam(contents, origin, warn)
    if any(name.startswith("image_encoder.") for name in state):
        raise UserError(
            f"{origin} has weights under the names of segment-anything ({few(state)}); expected "
            "those of transformers. Give the path of the file with the weights."
        )
    model = _model_of(config)
    if is_sam2(state) and config.model_type in SAM2_TYPES:
        return load_sam2(state, model, origin, warn)
    return _filled(model, state, origin)


def read_config(source: str | Path) -> Any:
    """Read the configuration of a folder of transformers, or of an id that was fetched.

    Raises:
        UserError: it is no configuration of transformers.
    """
    path = Path(source) / CONFIG_FILE
    if path.is_file():
        read_head(path)  # refuses what stands in its place
    try:
        config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:  # whatever a damaged or foreign file makes transformers raise
        raise UserError(
            f"{path} is no configuration that transformers can read: {_reason(error)} Give the "
            "folder of a SAM model of transformers."
        ) from error
    return sam3_weights.tracker_config(config)


def _reason(error: Exception) -> str:
    """Return what an error of a library says, as one short line."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return f"{text}." if len(text) <= 200 else f"{text[:200]}..."


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a folder, as transformers chooses them."""
    first = next(folder / name for name in PRETRAINED_FILES if (folder / name).is_file())
    if not first.name.endswith(".index.json"):
        return [first]
    files = [folder / name for name in shards(first)]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {few(missing)}, which {first.name} names. Copy or download them too."
        )
    return files


def shards(index: Path) -> list[str]:
    """Return the names of the files that an index of transformers lists."""
    try:
        return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index} does not list files with weights: expected a weight_map of tensors and file "
            "names. Copy or download it again."
        ) from error


def _has_transformers_names(state: Iterable[str]) -> bool:
    return any(name.startswith(("vision_encoder.", "shared_image_embedding.")) for name in state)


def _model_beside(path: Path, types: Container[str]) -> Any:
    """Return the model that a config.json of these types beside a file describes; or None."""
    if not (path.parent / CONFIG_FILE).is_file():
        return None
    config = read_config(path.parent)
    return _model_of(config) if config.model_type in types else None


def _model_of(config: Any) -> Any:
    """Return the model of a configuration of transformers, on the meta device."""
    try:
        return empty_model(config, torch.float32)
    except Exception as error:  # transformers checks its numbers in many places
        raise UserError(
            f"{config.name_or_path}/{CONFIG_FILE} describes no model: {_reason(error)}"
        ) from error


def _inferred_model(state: Mapping[str, Tensor], origin: str, warn: Warn) -> Module:
    """Return the model whose tensors these are, from their shapes, on the meta device."""
    bundled = empty_model(sam_mini_config())
    if _shapes(bundled.state_dict()).items() >= _shapes(state).items():
        return bundled
    renamed = {meta: state[ours] for ours, meta in meta_names(state).items()}
    config = infer_config(renamed, origin, NORM_EPSILON)
    if config.mask_decoder_config.hidden_size != RELEASED_WIDTH:
        warn(
            f"{origin} does not say how many heads its decoder has; {DECODER_HEADS} are assumed, "
            f"as in every released SAM. If it has others, put the model's {CONFIG_FILE} beside it."
        )
    return empty_model(config)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _filled(model: Any, state: Mapping[str, Tensor], origin: str) -> Any:
    """Fill a model of transformers with tensors of its own names.

    Of tensors that the model shares one is enough, as for transformers.
    """
    expected = model.state_dict()
    names = {name: name for name in expected}
    for one, other in (model._tied_weights_keys or {}).items():
        for name, substitute in ((one, other), (other, one)):
            if name not in state and substitute in state:
                names[name] = substitute
    return fill_(model, match(expected, state, names, origin), names, origin)

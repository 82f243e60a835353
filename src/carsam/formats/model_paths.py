"""What a user names as a model: a run, a float model, or neither. Needs no torch."""

import difflib
import os
import re
from pathlib import Path

from carsam.errors import UserError, few
from carsam.formats.bundled import (
    BUNDLED_MODEL,
    BUNDLED_RUNS,
    CONFIG_FILE,
    bundled_models,
    is_run,
    run_folder,
)
from carsam.formats.manifest import MANIFEST_FILE, read_json

PRETRAINED_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where transformers keeps weights, in the order in which it looks for them."""

ADAPTER_FILE = "adapter_config.json"
RUN_FILES = (MANIFEST_FILE, "model.safetensors")

WEIGHT_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
OTHER_ENDINGS = (
    ".json",
    ".pkl",
    ".onnx",
    ".zip",
    ".h5",
    ".npz",
    ".gguf",
    ".msgpack",
    ".jpg",
    ".png",
)

ADAPTER_ADVICE = (
    "Merge the adapters into their model first: model.merge_and_unload().save_pretrained(FOLDER) "
    "with PEFT, then give FOLDER."
)


def find_run(source: str | Path) -> Path:
    """Return the folder of a run, given its path or the name of a bundled one.

    Raises:
        UserError: it is something else, which is named, or nothing.
    """
    path = run_folder(source)
    if is_run(path):
        return path
    _refuse_file_of_run(path)
    if str(path) in bundled_models() and not os.path.exists(path):
        found = "a bundled float model"
    elif not os.path.exists(path):
        raise missing(source)
    else:
        found = _description(path)
    raise UserError(
        f"{path} is {found}, not a run of `carsam quantize`: a run is a folder that holds "
        f"{MANIFEST_FILE}.{_runs_inside(path)} Make a run with `carsam quantize`."
    )


def find_float_model(source: str | Path) -> str | Path:
    """Return the path of a float model, or its name: a bundled one or a Hugging Face id.

    A folder is one that transformers can load; what a file holds is left to its readers.

    Raises:
        UserError: it is a run, or lacks weights, or is not there.
    """
    name = source.as_posix() if isinstance(source, Path) else source
    if not name.strip():
        raise UserError(f"The name of the model is empty; give {BUNDLED_MODEL}, a path or an id.")
    if "://" in name:
        raise UserError(f"{name} is an address; download the model and give its path.")
    path = Path(source)
    if is_run(source):
        raise UserError(
            f"{source} is a run of `carsam quantize`, quantized already; here a float model "
            f"belongs, such as the one it was made from{_origin(run_folder(source))}."
        )
    if name in bundled_models() and (isinstance(source, str) or not path.exists()):
        return name
    if not os.path.exists(path):
        if _looks_like_id(name):
            return name
        raise missing(source)
    _refuse_file_of_run(path)
    if path.is_dir():
        _check_float_folder(path)
    elif path.suffix.lower() == ".json":
        raise UserError(f"{source} describes a model and holds no weights; give its folder.")
    elif not path.is_file():
        raise UserError(f"{source} is neither a file nor a folder; give a file of weights.")
    return path


def missing(source: str | Path) -> UserError:
    """Return the error for a path that is not there, naming what is there instead."""
    path = Path(source)
    if os.path.islink(path):
        return UserError(f"{path} is a link to {os.readlink(path)}, which is not there.")
    parents = [path, *path.parents]
    place = next(n for n, parent in enumerate(parents) if n and os.path.exists(parent))
    folder, lost = parents[place], parents[place - 1]
    message = f"There is no file or folder {source}."
    if not folder.is_dir():
        return UserError(f"{message} {folder} is a file, not a folder.")
    if lost != path:
        message += f" {lost} is not there either."
    near = _similar_names(lost.name, folder)
    if near:
        message += f" Did you mean {' or '.join(near)}?"
    elif lost == path and folder != Path():
        message += f" {folder} holds {few(_entries(folder)) or 'nothing'}."
    if _looks_like_id(str(source)):
        message += " A Hugging Face id names a float model, which `carsam quantize` takes."
    return UserError(message)


def _similar_names(name: str, folder: Path) -> list[str]:
    """Return paths in a folder whose names look like the one given, the most similar first."""
    names = {entry.lower(): str(folder / entry) for entry in _entries(folder)}
    if folder == Path():
        names |= {name: name for name in (*bundled_models(), *BUNDLED_RUNS)}
    return [names[near] for near in difflib.get_close_matches(name.lower(), names)]


def _looks_like_id(name: str) -> bool:
    """Tell whether a path that is not there may be a Hugging Face id, OWNER/NAME."""
    owner, _, _ = name.partition("/")
    return (
        re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None
        and not name.lower().endswith(WEIGHT_ENDINGS + OTHER_ENDINGS)
        and not os.path.exists(owner)
    )


def _refuse_file_of_run(path: Path) -> None:
    if path.name in RUN_FILES and is_run(path.parent):
        raise UserError(
            f"{path} is a file of the run {path.parent}. Give that folder to run it; where a float "
            f"model belongs, give the one that the run was made from{_origin(path.parent)}."
        )


def _origin(run: Path) -> str:
    """Return what the run says it was made from, in brackets, where it says so."""
    try:
        manifest = read_json((run / MANIFEST_FILE).read_bytes())
    except (OSError, ValueError):
        return ""
    source = manifest.get("source") if isinstance(manifest, dict) else None
    return f" ({source})" if isinstance(source, str) else ""


def _check_float_folder(folder: Path) -> None:
    """Refuse a folder that does not hold a whole model of transformers."""
    entries = _entries(folder)
    if ADAPTER_FILE in entries:
        raise UserError(f"{folder} holds adapters (LoRA, {ADAPTER_FILE}). {ADAPTER_ADVICE}")
    weights = [name for name in PRETRAINED_FILES if name in entries]
    if CONFIG_FILE in entries and weights:
        return
    files = [name for name in entries if name.lower().endswith(WEIGHT_ENDINGS)]
    if files:
        lacking = CONFIG_FILE if weights else f"{PRETRAINED_FILES[0]} or {PRETRAINED_FILES[2]}"
        one = "that file" if len(files) == 1 else "one of these files"
        raise UserError(
            f"{folder} is no model of transformers, because it lacks {lacking}. It holds "
            f"{few(files)}: give the path of {one}, such as {folder / files[0]}."
        )
    if CONFIG_FILE in entries:
        raise UserError(
            f"{folder} holds {CONFIG_FILE} but no weights; expected {PRETRAINED_FILES[0]} or "
            f"{PRETRAINED_FILES[2]} beside it, found {few(entries)}. Copy the weights there too."
        )
    raise UserError(
        f"{folder} is {_description(folder)}; expected the folder of a SAM model of transformers, "
        f"with {CONFIG_FILE} and {PRETRAINED_FILES[0]}.{_models_inside(folder)}"
        f"{_runs_inside(folder)}"
    )


def _description(path: Path) -> str:
    if path.is_file():
        if (path.parent / CONFIG_FILE).is_file():
            return f"a file of the float model {path.parent}"
        return "a file of weights" if path.suffix.lower() in WEIGHT_ENDINGS else "a file"
    entries = _entries(path)
    if CONFIG_FILE in entries:
        return "a float model of transformers"
    return f"a folder that holds {few(entries)}" if entries else "an empty folder"


def _runs_inside(path: Path) -> str:
    return _inside(path, MANIFEST_FILE, "run")


def _models_inside(path: Path) -> str:
    return _inside(path, CONFIG_FILE, "model")


def _inside(path: Path, file: str, kind: str) -> str:
    """Say which subfolders, down to the second level, hold such a file."""
    found = [
        str(place.parent)
        for depth in ("*", "*/*")
        for place in sorted(path.glob(f"{depth}/{file}"))
    ]
    return f" There is a {kind} in {few(found)}." if found else ""


def _entries(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []

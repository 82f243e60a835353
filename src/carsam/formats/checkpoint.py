"""The checkpoint of a quantized model: a folder with `model.safetensors` and `carsam.json`.

Torch is not needed to read or write one. `docs/checkpoint.md` describes every field.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from carsam.errors import UserError
from carsam.formats.failed_downloads import read_head
from carsam.formats.files import check_writable, is_disk_full, write_whole
from carsam.formats.folders import sole_writer, standing, whole_folder
from carsam.formats.grid_layouts import site_tensors
from carsam.formats.manifest import (
    FORMAT,
    MANIFEST_FILE,
    VERSION,
    grids_of,
    read_json,
    read_manifest,
)
from carsam.formats.model_config import check_model_config
from carsam.formats.model_paths import find_run
from carsam.formats.refusal import refusing_tensors

WEIGHTS_FILE = "model.safetensors"
DTYPES = {"F16": np.float16, "F32": np.float32, "U8": np.uint8}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: what `carsam.json` says, and the tensors by name."""

    manifest: dict[str, Any]
    tensors: Mapping[str, np.ndarray]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that decides what the model computes, in hexadecimal."""
        decisive = {key: self.manifest[key] for key in ("family", "model_config", "sites")}
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
        for name in sorted(self.tensors):
            tensor = np.ascontiguousarray(self.tensors[name])
            digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            digest.update(tensor.data)
        return digest.hexdigest()


def read_checkpoint(source: str | Path) -> Checkpoint:
    """Read a checkpoint; the tensors are views of the memory-mapped file.

    Args:
        source: its folder, or the name of a bundled run.

    Raises:
        UserError: the folder is no run, or one of its files is missing, damaged or truncated.
    """
    folder = find_run(source)
    manifest = read_manifest(folder / MANIFEST_FILE)
    weights = folder / WEIGHTS_FILE
    _check_weights_file(weights, manifest)
    tensors = MappedTensors(weights)
    _check_tensors(manifest, tensors, weights)
    check_values(manifest["sites"], tensors, weights)
    try:
        check_model_config(manifest["model_config"], len(tensors))
    except ValueError as error:
        raise UserError(
            f"{folder / MANIFEST_FILE} is damaged: {error}. Quantize the model again."
        ) from error
    return Checkpoint(manifest, tensors)


def write_checkpoint(
    folder: str | Path,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    force: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:
        manifest: all keys of `carsam.json` except `format`, `version` and `weights_file`.
        force: replace an existing checkpoint; until the new one is complete the old one stays.
        beside: other files of the folder, by name.

    Raises:
        UserError: the folder exists and `force` is not set, another process is writing it, the disk
            is full, or the place cannot be written.
    """
    folder = Path(folder)
    try:
        with sole_writer(folder):
            check_output_folder(folder, force)
            with whole_folder(folder) as partial:
                _write_files(partial, manifest, tensors)
                for name, content in (beside or {}).items():
                    (partial / name).write_bytes(content)
    except (OSError, SafetensorError) as error:
        if is_disk_full(error):
            size = sum(tensor.nbytes for tensor in tensors.values())
            raise UserError(
                f"No space left on the disk of {folder.parent}; the checkpoint takes "
                f"{size / 1e6:.0f} MB. Free some space or choose another output folder."
            ) from error
        raise UserError(f"Cannot write {folder}: {error}. Choose another folder.") from error


def update_manifest(folder: str | Path, changes: Mapping[str, Any]) -> None:
    """Replace top-level keys of `carsam.json`, for example `metrics`, atomically.

    Raises:
        UserError: it cannot be read, or not be written.
    """
    path = standing(folder) / MANIFEST_FILE
    manifest = {**read_manifest(path), **changes}
    write_whole(path, _json(manifest), "Make room, or copy the model to another folder.")


def check_output_folder(
    folder: Path, force: bool, marker: str = MANIFEST_FILE, what: str = "a carsam checkpoint"
) -> None:
    """Refuse an existing output folder, before hours of work rather than after them.

    With `force` a folder that holds the `marker`, or an empty one, may be replaced, and nothing
    else: a mistyped `--out` must not delete photos.

    Args:
        marker: the file that tells what the folder is.
        what: that is, for messages.

    Raises:
        UserError: the folder exists or could not be made.
    """
    check_writable(folder.parent / f".{folder.name}", "Choose another folder.")
    if not folder.exists():
        return
    if not force:
        raise UserError(f"{folder} exists already. Choose another folder, or pass --force.")
    replaceable = folder.is_dir() and ((folder / marker).exists() or not any(folder.iterdir()))
    if not replaceable:
        raise UserError(
            f"{folder} exists and is not {what}, so --force does not replace it. "
            "Choose another folder."
        )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MappedTensors(Mapping[str, np.ndarray]):
    """The tensors of a safetensors file, read-only views of the mapped file.

    Raises:
        UserError: the file is not a safetensors file, or its header does not fit its size.
    """

    def __init__(self, path: Path) -> None:
        try:
            with safe_open(path, framework="numpy"):  # checks the header against the file's size
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}.") from error
        mapped = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        header_size = int(mapped[:8].view("<u8")[0])
        try:
            header = read_json(bytes(mapped[8 : 8 + header_size]))
        except ValueError as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}.") from error
        header.pop("__metadata__", None)
        unknown = {entry["dtype"] for entry in header.values()} - set(DTYPES)
        if unknown:
            raise UserError(
                f"{path} holds tensors of type {', '.join(sorted(unknown))}; "
                f"a carsam checkpoint holds only {', '.join(DTYPES)}."
            )
        self._data = mapped[8 + header_size :]
        self._header = header

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        return self._data[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


def _write_files(
    folder: Path, manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> None:
    path = folder / WEIGHTS_FILE
    kept = {**tensors, **refusing_tensors(manifest["sites"])}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in kept.items()}, path)
    path.chmod(0o644)  # safetensors writes files that others cannot read
    weights = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    full = {"format": FORMAT, "version": VERSION, **manifest, "weights_file": weights}
    (folder / MANIFEST_FILE).write_bytes(_json(full))


def _json(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _check_weights_file(path: Path, manifest: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise UserError(f"{path.parent} is incomplete: it holds no {WEIGHTS_FILE}.")
    read_head(path)
    expected = manifest["weights_file"]
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise UserError(
            f"{path} is damaged: it has {size} bytes, {MANIFEST_FILE} says {expected['bytes']}. "
            "Copy the checkpoint again."
        )
    if file_sha256(path) != expected["sha256"]:
        raise UserError(
            f"{path} is damaged: its content does not match the SHA-256 in {MANIFEST_FILE}. "
            "Copy the checkpoint again."
        )


def _check_tensors(manifest: Mapping[str, Any], tensors: MappedTensors, path: Path) -> None:
    expected = chain.from_iterable(
        site_tensors(site_path, site) for site_path, site in manifest["sites"].items()
    )
    for name, dtype, shape in expected:
        found = tensors.get(name)
        if found is None:
            raise UserError(f"{path} does not fit its {MANIFEST_FILE}: {name} is missing.")
        if found.dtype != dtype or found.shape != shape:
            raise UserError(
                f"{path} does not fit its {MANIFEST_FILE}: {name} is {found.dtype} of shape "
                f"{found.shape}, expected {dtype} of shape {shape}."
            )


def check_values(
    sites: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: str | Path
) -> None:
    """Refuse numbers that no grid has; a comparison with NaN is false.

    Args:
        sites: the manifest's.
        path: named in the error.

    Raises:
        UserError: a number is NaN, infinite, or not of its grid.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != np.uint8 and not np.isfinite(tensor).all():
            raise UserError(f"{path} is damaged: {name} holds NaN or infinity.")
    for site_path, site in sites.items():
        for name, grid in grids_of(site_path, site):
            if not (tensors[f"{name}_scale"] > 0).all():
                raise UserError(f"{path} is damaged: {name}_scale is not positive.")
            if (entries := tensors.get(f"{name}_entries")) is not None:
                _check_entries(entries, tensors[f"{name}_zero_point"], name, path)
                continue
            for end, count in (("zero_point", 2 ** grid["bits"]), ("group", grid.get("groups"))):
                codes = tensors.get(f"{name}_{end}")
                if codes is not None and count is not None and (codes >= count).any():
                    raise UserError(
                        f"{path} is damaged: {name}_{end} is {codes.max()}; "
                        f"expected less than {count}."
                    )


def _check_entries(
    entries: np.ndarray, zero_point: np.ndarray, name: str, path: str | Path
) -> None:
    if (entries[1:] < entries[:-1]).any() or zero_point not in entries:
        raise UserError(
            f"{path} is damaged: {name}_entries are {entries.tolist()}; expected them to ascend, "
            f"and zero point {zero_point[0]} among them."
        )

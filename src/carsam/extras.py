"""The optional package groups: say which one is missing before a command needs it."""

import importlib.util
from collections.abc import Sequence

from carsam.errors import MissingExtraError

EXTRAS = {
    "quantize": ("torch", "transformers", "faster_coco_eval", "matplotlib"),
    "video": ("av",),
    "onnx": ("onnx", "onnxruntime"),
    "annotate": ("pyarrow", "fsspec", "s3fs"),
    "ray": ("ray",),
    "serve": ("starlette", "uvicorn"),
    "bench": ("nncf", "onnx", "onnxruntime", "onnxscript", "openvino"),
}
"""Extra -> the packages it adds, by import name. pyproject.toml holds the versions."""


def require(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        extra: a key of `EXTRAS`.
        packages: import names of the ones needed; all of the extra's unless given.

    Raises:
        MissingExtraError: names the missing packages and the command that installs them.
    """
    needed = packages or EXTRAS[extra]
    missing = [package for package in needed if not _installed(package)]
    if missing:
        raise MissingExtraError(
            f"This command needs {_listed(needed)} (not found: {', '.join(missing)}). "
            f"Install the extra: pip install 'carsam[{extra}]'"
        )


def _listed(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False

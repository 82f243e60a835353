"""Packages import one another in one direction only, and what runs a checkpoint needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import carsam

ROOT = Path(carsam.__file__).parent
ORDER = (
    "errors",
    "extras",
    "threads",
    "system",
    "progress",
    "formats",
    "images",
    "runtime",
    "families",
    "grids",
    "simulation",
    "methods",
    "engines",
    "predict",
    "export",
    "hugging_face",
    "video",
    "evaluation",
    "annotation",
    "serve",
    "calibration",
    "comparison",
    "diagnosis",
    "benchmark",
    "report",
    "quickstart",
    "demo",
    "cli",
)
"""Each may import those before it; docs/architecture.md says why."""

WITHOUT_TORCH = ("formats", "images", "runtime", "predict", "video", "annotation", "serve", "demo")
WITHOUT_TORCH += ("engines.load", "engines.native_engine", "engines.native_video_engine")
WITHOUT_TORCH += ("engines.video", "export.onnx")


def imported(path: Path) -> set[str]:
    """The packages of carsam that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "carsam":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("carsam."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("carsam.")}
    return found


def package(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def test_every_package_has_a_place_in_the_order():
    packages = {package(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert packages == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_package_imports_only_packages_before_it(name):
    allowed = set(ORDER[: ORDER.index(name) + 1])
    for path in ROOT.rglob("*.py"):
        if package(path) == name:
            assert imported(path) <= allowed, path


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_no_module_of_it_imports_torch(name):
    if name == "export.onnx":
        pytest.importorskip("onnx")
    folder = ROOT / name.replace(".", "/")
    paths = [folder.with_suffix(".py")] if not folder.is_dir() else folder.rglob("*.py")
    parts = [("carsam", *path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    modules = [".".join(part for part in each if part != "__init__") for each in parts]
    script = (
        "import importlib, sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = None\n"
        f"for name in {modules}: importlib.import_module(name)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""What a wheel holds: the package and its bundled models, no sources of kernels and no tests."""

import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from check_wheel import NEEDED, problems  # noqa: E402


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory) -> Path:
    """The wheel that this tree makes, without compiling anything."""
    build = pytest.importorskip("scikit_build_core.build")
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        options = {"wheel.cmake": "false", "wheel.py-api": "py3"}
        return folder / build.build_wheel(str(folder), options)


@pytest.fixture
def repacked(pure_wheel, tmp_path):
    """Writes the wheel again, with other names in it, under the name of one with kernels."""

    def repack(*added: str, without: str = "") -> Path:
        wheel = tmp_path / "carsam-0-cp312-abi3-win_amd64.whl"
        with zipfile.ZipFile(pure_wheel) as source, zipfile.ZipFile(wheel, "w") as target:
            for name in {*source.namelist(), *added} - {without}:
                target.writestr(name, b"")
        return wheel

    return repack


def test_a_wheel_of_this_tree_holds_what_it_should(pure_wheel):
    assert problems(pure_wheel) == []


@pytest.mark.parametrize("kernels", ["_kernels.abi3.so", "_kernels.pyd"])
def test_every_system_names_its_kernels_in_its_own_way(repacked, kernels):
    assert problems(repacked(f"carsam/runtime/{kernels}")) == []


def test_a_wheel_for_a_system_without_kernels_is_refused(repacked):
    assert problems(repacked()) == ["0 files of kernels instead of 1"]


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_wheel.py",
        "csrc/module.cpp",
        "carsam/runtime/module.cpp",
        "carsam/models/sam-mini/optimizer.safetensors",
        "libgomp.so",
        "carsam/runtime/__pycache__/native.cpython-312.pyc",
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(repacked, name):
    assert problems(repacked("carsam/runtime/_kernels.pyd", name)) == [f"{name} is not expected"]


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_missing_is_named(repacked, name):
    assert problems(repacked("carsam/runtime/_kernels.pyd", without=name)) == [f"{name} is missing"]


def test_a_wheel_that_is_too_large_is_refused(repacked, monkeypatch):
    wheel = repacked("carsam/runtime/_kernels.pyd")
    monkeypatch.setattr("check_wheel.LARGEST", 100)
    assert problems(wheel) == [f"{wheel.stat().st_size} bytes; at most 100 are allowed"]

"""Missing packages of an extra are named before a command needs them."""

import subprocess
import sys

import pytest
from without_torch import run_without_torch

from carsam import extras
from carsam.errors import MissingExtraError


def test_missing_packages_are_named_with_the_extra_to_install() -> None:
    result = run_without_torch(
        "from carsam.extras import require\nrequire('quantize', 'torch', 'transformers')"
    )
    assert (
        "This command needs torch and transformers (not found: torch, transformers). "
        "Install the extra: pip install 'carsam[quantize]'"
    ) in result.stderr


def test_an_installed_extra_is_accepted_without_importing_it() -> None:
    code = "import sys\nfrom carsam.extras import require\nrequire('quantize')\n"
    command = [sys.executable, "-c", code + "assert 'torch' not in sys.modules"]
    assert subprocess.run(command, timeout=120).returncode == 0


def test_only_the_packages_asked_for_are_checked(monkeypatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "quantize", ("torch", "no_such_package"))
    extras.require("quantize", "torch")
    with pytest.raises(MissingExtraError, match="not found: no_such_package"):
        extras.require("quantize")

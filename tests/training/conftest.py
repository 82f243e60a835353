"""Tests of the training import its modules, which are no package, from their folder."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def training_modules(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "training")

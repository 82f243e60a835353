"""Tests of benchmarks import their modules, which are no package, from their folder."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")

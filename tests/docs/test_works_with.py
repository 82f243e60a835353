"""Each row of the README's table "Works with" is held by a test that asks for the client itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "scripts" / "clients.sh").read_text(encoding="utf-8")
INSTALLED = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + SCRIPT
BY_HAND, PROTOCOL = "†", "its protocol ‡"


def rows() -> list[list[str]]:
    """Return the cells of every row: client, version, what works, test files."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Works with\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| [")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


each_row = pytest.mark.parametrize(
    ("client", "version", "works", "held"), rows(), ids=[row[0] for row in rows()]
)


def files(held: str) -> list[Path]:
    return [ROOT / name for name in re.findall(r"`([^`]+)`", held)]


def requirement(version: str) -> str:
    """Return what is installed, such as `osam==0.8.1`; nothing for a protocol."""
    found = re.match("`(.+)`", version)
    return found[1] if found else ""


def stands_in(text: str, required: str) -> bool:
    """Tell whether text asks for exactly these versions."""
    return re.search(rf"(?<![\w-]){re.escape(required)}(?![\w.,<>=])", text) is not None


def names(required: str) -> set[str]:
    """Return how tests may ask for a package: to import it, or by the folder of its client."""
    package = re.split("[=<>@]", required)[0]
    folders = re.findall(rf"^package (\S+) {re.escape(required)}( |$)", SCRIPT, flags=re.M)
    return {package, package.replace("-", "_"), *(folder for folder, _ in folders)}


def asked_for(test: Path) -> Iterator[str]:
    """Yield what a test imports, the fixtures it takes, and what it gives to functions."""
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Call):
            parts = (part for argument in node.args for part in ast.walk(argument))
            yield from (str(part.value) for part in parts if isinstance(part, ast.Constant))


def test_the_table_is_found() -> None:
    assert len(rows()) > 15
    assert {len(row) for row in rows()} == {4}


@each_row
def test_its_tests_ask_for_the_client(client: str, version: str, works: str, held: str) -> None:
    assert files(held)
    for test in files(held):
        assert test.exists()
        asked = {name.partition(".")[0] for name in asked_for(test)}
        assert "unittest" not in asked  # where mocks come from
        if required := requirement(version):
            assert names(required) & asked


@each_row
def test_its_version_is_the_one_that_is_installed(
    client: str, version: str, works: str, held: str
) -> None:
    required = requirement(version)
    if not required:
        assert version == PROTOCOL
    elif version.endswith(BY_HAND):
        assert not stands_in(INSTALLED, required)
        assert any(stands_in(test.read_text(encoding="utf-8"), required) for test in files(held))
    else:
        assert stands_in(INSTALLED, required)

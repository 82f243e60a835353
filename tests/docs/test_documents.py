"""The documents name only what exists: links, files, Python names, commands, recipes, steps."""

import functools
import importlib
import json
import re
import shlex
from dataclasses import fields
from itertools import chain
from pathlib import Path

import pytest

from carsam.cli import app
from carsam.comparison.table import Row, markdown
from carsam.methods.registry import (
    CLOSING_STEPS,
    LEGACY_RECIPES,
    OPENING_STEPS,
    RECIPES,
    STEPS,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = [ROOT / "README.md", ROOT / "training" / "README.md", *(ROOT / "docs").glob("*.md")]
PLACES = ("benchmarks", "csrc", "docs", "examples", "scripts", "src", "tests", "training")
SOURCES = [path for place in PLACES for path in (ROOT / place).rglob("*") if path.is_file()]
CODE = (".py", ".h", ".cpp", ".c", ".sh")
ALL_STEPS = {**STEPS, **OPENING_STEPS, **CLOSING_STEPS}
EXAMPLES = {"gptq_scales.py"}
"""Files that a document asks its reader to write."""

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def prose(document: Path) -> str:
    """Return the text without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.S | re.M)


def spans(document: Path) -> list[str]:
    """Return what stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(document))


def commands(document: Path) -> list[list[str]]:
    """Return the words of every command, from shell blocks, indented blocks and code spans."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = chain.from_iterable(
        block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.S | re.M)
    )
    indented = re.findall(r"^    (python .*)$", text, flags=re.M)
    starts = ("carsam ", "python ")
    written = [*lines, *indented, *(span for span in spans(document) if span.startswith(starts))]
    words = (shlex.split(line, comments=True) for line in written)
    return [found for found in words if found and found[0] in ("carsam", "python")]


def anchors(document: Path) -> set[str]:
    """Return what a link may name after `#`: headings as GitHub does, and ids."""
    text = prose(document)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'id="([^"]+)"', text))


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_document
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    names = re.findall(rf"(?<![\w./~-])((?:{'|'.join(PLACES)})/[a-z0-9_./-]+\.[a-z]+)\b", text)
    shown = [span for span in spans(document) if re.fullmatch(r"[a-z0-9_./-]+", span)]
    known = [path.as_posix() for path in SOURCES]
    for name in {*names, *(span for span in shown if span.endswith(CODE))} - EXAMPLES:
        assert any(path.endswith(f"/{name}") for path in known), name
    results = {path.name for path in RESULTS.iterdir()}
    for span in spans(document):
        if re.fullmatch(r"(compare|speed|ablation|calibration|carsam)_\w[\w-]*\.json", span):
            assert span in results, span


def test_comments_of_the_kernels_name_files_that_exist() -> None:
    for path in (ROOT / "csrc").iterdir():
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"carsam/[\w/]+\.py", text):
            assert (ROOT / "src" / name).exists(), f"{path.name}: {name}"
        for name in re.findall(r"\b\w+\.(?:cpp|h)\b", re.sub(r"#include <.*", "", text)):
            assert (ROOT / "csrc" / name).exists(), f"{path.name}: {name}"


@each_document
def test_python_names_exist(document: Path) -> None:
    for span in spans(document):
        name = re.match(r"carsam(\.\w+)+", span)
        if name and not span.endswith(".json"):
            assert resolves(name[0]), span


def resolves(name: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@each_document
def test_commands_and_their_options_exist(document: Path) -> None:
    for words in commands(document):
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if words[0] == "carsam":
            known = options_of(words[1])
        elif words[1].endswith(".py"):
            script = ROOT / words[1]
            helper = script.with_name("accuracy_jobs.py")
            text = script.read_text(encoding="utf-8")
            if "accuracy_jobs" in text:
                text += helper.read_text(encoding="utf-8")
            known = set(re.findall(r'"(--[\w-]+)"', text))
        else:
            continue
        assert set(options) <= known, words


def options_of(command: str) -> set[str]:
    """Return the options of a `carsam` command; it is an error if there is none of that name."""
    found = app[command].assemble_argument_collection()
    return {name for argument in found for name in argument.names if name.startswith("--")}


@each_document
def test_options_that_are_named_exist(document: Path) -> None:
    names = [name for name in app if not name.startswith("-")]
    known = set().union(*map(options_of, names))
    scripts = [path for path in SOURCES if path.suffix == ".py" and "src" not in path.parts]
    for path in scripts:
        known |= set(re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8")))
    for span in spans(document):
        if span.startswith("--"):
            assert span.split()[0].partition("=")[0] in known, span


@each_document
def test_recipes_and_settings_in_commands_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for names in re.findall(r"--recipes?[ =]([a-z][\w,-]*)", text):
        assert {*names.split(",")} <= {"all", "gptq-scales", *RECIPES, *LEGACY_RECIPES}, names
    for step, parameter in re.findall(r"--set ([\w-]+)\.(\w+)=", text):
        if step != "step":
            assert step in ALL_STEPS, step
            assert parameter in parameters(step), f"{step}.{parameter}"
    every = set(chain.from_iterable(map(parameters, ALL_STEPS)))
    for span in spans(document):
        setting = re.fullmatch(r"(\w+)=(true|false|[\d.]+)", span)
        assert setting is None or setting[1] in every, span


def parameters(step: str) -> set[str]:
    return {entry.name for entry in fields(ALL_STEPS[step])}


@each_document
def test_hyphenated_names_are_names_of_the_code(document: Path) -> None:
    for span in spans(document):
        if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", span):
            assert span in literals(), span


@functools.cache
def literals() -> set[str]:
    """Return the hyphenated strings of the sources, scripts and required packages."""
    texts = [
        ROOT / "pyproject.toml",
        *(path for path in SOURCES if path.suffix in (".py", ".json")),
    ]
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in texts if "tests" not in path.parts
    )
    return set(re.findall(r'["/ ]([a-z0-9]+(?:-[a-z0-9]+)+)["/>=., ]', code))


def test_thresholds_of_the_bundled_model_are_its_own() -> None:
    manifest = ROOT / "src" / "carsam" / "models" / "sam-mini-w4a4" / "carsam.json"
    own = json.loads(manifest.read_text())["mask_thresholds"]["quantized"]
    iou, stability = own["pred_iou_thresh"], own["stability_score_thresh"]
    page = (ROOT / "docs" / "everything.md").read_text(encoding="utf-8")
    assert f"Its own thresholds are {iou:.2f} and {stability:.2f}." in page


@pytest.mark.parametrize(
    ("result", "document"),
    [("compare.json", "accuracy.md"), ("compare_sam2-mini.json", "sam2.md")],
)
def test_the_tables_of_accuracy_are_those_of_the_results(result: str, document: str) -> None:
    rows = [Row(**row) for row in json.loads((RESULTS / result).read_text())["rows"]]
    page = (ROOT / "docs" / document).read_text(encoding="utf-8").splitlines()
    for line in markdown(rows).splitlines():
        if line.startswith("| ") and not line.startswith("| float"):
            assert line in page

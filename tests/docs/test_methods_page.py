"""docs/methods.md, `carsam recipes` and the code say the same of recipes, steps and budgets."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from carsam.cli import main
from carsam.methods.budgets import BUDGETS, PAPER
from carsam.methods.recipe import parse_setting
from carsam.methods.registry import (
    CLOSING_STEPS,
    OPENING_STEPS,
    PAPER_NAMES,
    RECIPES,
    STEPS,
    make_recipe,
)
from carsam.methods.units import MERGES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
STEP_FILES = ROOT / "src" / "carsam" / "methods" / "steps"
ALL_STEPS = {**STEPS, **OPENING_STEPS, **CLOSING_STEPS}
NAMED_GRIDS = {
    " ".join(name.lower().split()): step
    for name, step in re.findall(r'"((?:averaged\s)?grids[\w ]*)" is\s`([^`]+)`', PAGE, flags=re.I)
}
"""What the page calls grids, as it defines them."""


@dataclass(frozen=True)
class Said:
    """A step as it is written somewhere: its name, its name in papers, its parameters."""

    name: str
    paper: str
    parameters: dict[str, Any]


def values(step: str, words: str) -> dict[str, Any]:
    """Read `parameter=value parameter=value`."""
    settings = (parse_setting(f"{step}.{word.lower()}") for word in words.split())
    return {parameter: value for _, parameter, value in settings}


def rows(*header: str) -> list[list[str]]:
    """Return the cells of the page's table with a header."""
    _, table = PAGE.split("| " + " | ".join(header) + " |\n", 1)
    lines = table.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def written_recipes() -> dict[str, tuple[set[str], list[Said]]]:
    """Return units and steps of every recipe from the page."""
    found = {}
    for name, steps, units in rows("recipe", "steps", "units"):
        each = [NAMED_GRIDS.get(step, step.strip("`")) for step in steps.split(", ")]
        said = []
        for step in each:
            step_name, _, words = step.partition(" ")
            paper = PAPER_NAMES.get(step_name, "")
            said.append(Said(step_name, paper, values(step_name, words)))
        found[name.strip("`")] = (set(spans(units)), said)
    return found


@pytest.fixture
def printed(capsys) -> dict[str, tuple[set[str], list[Said]]]:
    """Units and steps of every recipe as `carsam recipes` prints them."""
    assert main(["recipes"]) == 0
    found = {}
    for part in re.split(r"^(?=\S)", capsys.readouterr().out, flags=re.M)[1:]:
        first, *lines = part.splitlines()
        name, units = first.split(": units ")
        steps = []
        for line in lines:
            match = re.fullmatch(r"  ([\w-]+)(?: \[(.*)\])?(?: \(once, .*\))?: ?(.*)", line)
            assert match, line
            steps.append(Said(match[1], match[2] or "", values(match[1], match[3])))
        found[name] = ({unit for unit in MERGES if unit in units}, steps)
    return found


def test_the_page_and_the_command_list_the_same_recipes_units_and_steps(printed):
    written = written_recipes()
    assert set(written) == set(printed) == set(RECIPES)
    for name, (units, steps) in printed.items():
        expected, documented = written[name]
        assert units == expected == set(RECIPES[name].units)
        assert [(s.name, s.paper) for s in steps] == [(s.name, s.paper) for s in documented]
        for step, page in zip(steps, documented, strict=True):
            defaults = values(
                step.name, " ".join(f"{f.name}={f.default}" for f in fields(ALL_STEPS[step.name]))
            )
            changed = {k: v for k, v in step.parameters.items() if v != defaults[k]}
            assert page.parameters == changed, f"{name}: {step.name}"


def test_the_page_has_every_step_its_file_and_what_papers_call_it():
    named = {}
    for step, paper, files in rows("step or unit", "in the papers", "file in `methods/steps/`"):
        named[step.strip("`")] = paper
        for path in spans(files):
            assert (STEP_FILES / path).exists(), path
    own = {name: "ours" for name in ALL_STEPS if name not in PAPER_NAMES}
    for unnamed in ("round-to-nearest", "reconstruct-unfinished"):
        del own[unnamed]
    assert named == {**PAPER_NAMES, **own}


def test_the_pages_table_of_budgets_is_what_recipes_train_with():
    header = ("recipes", "`steps` per unit", "`rounding_rate`", "`scale_rate`")
    written: dict[str, list[dict[str, float]]] = {}
    for recipes, *numbers in rows(*header):
        keys = ("steps", "rounding_rate", "scale_rate")
        said = {k: float(n) for k, n in zip(keys, numbers, strict=True) if n}
        for name in spans(recipes):
            if name in RECIPES:
                written.setdefault(name, []).append(said)
    trains = {name for name, recipe in RECIPES.items() if any(map(is_training, recipe.all_steps))}
    assert set(written) == trains
    for name, expected in written.items():
        paper = [s for s in make_recipe(name, "w4a4", budget="paper").all_steps if is_training(s)]
        fast = [s for s in RECIPES[name].all_steps if is_training(s)]
        changed = [
            {k: float(v) for k, v in new.parameters.items() if old.parameters.get(k) != v}
            for new, old in zip(paper, fast, strict=True)
        ]
        assert changed == expected, name


def is_training(step):
    return step.name in PAPER


def test_the_page_names_the_budgets():
    section = PAGE.split("## Budgets")[1].split("\n## ")[0]
    assert set(re.findall(r"--budget (\w+)", section)) == set(BUDGETS)


def test_recipes_of_the_last_table_exist():
    for recipes, *_ in rows("recipe", "deviation", "why", "favour"):
        assert set(spans(recipes)) <= set(RECIPES), recipes

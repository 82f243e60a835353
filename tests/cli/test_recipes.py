import re

import pytest

from carsam.cli import main
from carsam.methods.registry import CLOSING_STEPS, OPENING_STEPS, PAPER_NAMES, RECIPES, STEPS
from carsam.methods.units import MERGES

PAPERS = ("AGQ", "BIG", "HLUQ", "CAG", "ACNR", "LNQ", "PCC", "PAR", "MAC", "JCAR", "GPTQ")


def test_recipes_lists_steps_and_parameters(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: units" in printed for name in RECIPES)
    assert "]: steps=300" in printed


def test_steps_that_run_once_are_listed_with_what_can_be_set(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert "\n  centre-inputs (once, before the first unit)" in printed
    assert "\n  polish (once, after the last unit): steps=800 rate=" in printed


@pytest.mark.parametrize("name", PAPERS)
def test_the_name_in_a_paper_finds_the_step_or_unit(capsys, name):
    assert main(["recipes"]) == 0
    assert re.search(rf"\[[^]]*\b{name}\b[^]]*\]", capsys.readouterr().out)


def test_names_of_papers_belong_to_what_exists():
    assert set(PAPER_NAMES) <= {*STEPS, *OPENING_STEPS, *CLOSING_STEPS, *MERGES}

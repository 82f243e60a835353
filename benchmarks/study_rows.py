"""The rows of method studies: a recipe less some of its parts, with more steps, other settings.

    carsam -compensate -cross+cross reconstruct.steps=900
    carsam-plus -polish balance-attention+compensate
    carsam-plus *attn=w4a8

are the recipe `carsam` without its step `compensate` and its joint unit `cross+cross`, with 900
steps of reconstruction; `carsam-plus` without `polish`, with `compensate` after
`balance-attention`; and `carsam-plus` with an exception to its bits."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from carsam.errors import UserError
from carsam.methods.recipe import Bits, Recipe, Rule, Step
from carsam.methods.registry import RECIPES, make_steps, make_whole_model_steps
from carsam.methods.steps.training.legacy import with_faults

MODES = ("strict", "legacy")
UNIFORM_SOFTMAX = ("-adaptive-granularity", "round-to-nearest.softmax=true")
FLOAT_ENCODER = Rule("encoder.*", Bits(None, None))


@dataclass(frozen=True)
class StudyRow:
    """One row of a study.

    Args:
        name: in the table.
        text: the recipe, the parts it is without, and settings.
        baseline: the row that it is compared with; None for a baseline.
    """

    name: str
    text: str
    baseline: str | None = None


def parse_row(text: str) -> StudyRow:
    """Read `NAME: RECIPE ...` or `NAME < BASELINE: RECIPE ...`."""
    names, separator, what = text.partition(":")
    name, _, baseline = names.partition("<")
    if not separator or not name.strip() or not what.split():
        raise UserError(f'Row "{text}" is not understood; write NAME < BASELINE: RECIPE -STEP.')
    return StudyRow(name.strip(), what.strip(), baseline.strip() or None)


def _paper(grid: str, *changes: str) -> tuple[StudyRow, ...]:
    """Return the rows of the paper's ablation (its table 4) with one grid of the probabilities."""
    parts = {"none": ("-compensate", "-cross+cross"), "MAC": ("-cross+cross",)}
    parts |= {"JCAR": ("-compensate",), "both": ()}
    return tuple(
        StudyRow(
            f"{name}, {grid}",
            " ".join(["carsam", *without, *changes]),
            None if name == "none" else f"none, {grid}",
        )
        for name, without in parts.items()
    )


RECONSTRUCTED = ("saqsam", "ptq4sam", "ahcptq", "carsam")
CURVE = {
    **dict.fromkeys(RECONSTRUCTED, ("reconstruct", (100, 300, 1000, 3000))),
    "carsam-plus": ("polish", (100, 300, 1000, 4000)),
}
"""What the study `curve` has: by recipe, the step that trains, and its numbers of steps."""


def curve_row(recipe: str, steps: int) -> StudyRow:
    """Return the row of the study `curve` with so many steps of training."""
    return StudyRow(f"{recipe}, {steps} steps", f"{recipe} {CURVE[recipe][0]}.steps={steps}")


def _decoder(bits: str) -> str:
    """Return the rules that give such bits to all of the decoder that is not left in float."""
    return f"decoder.*attention={bits} decoder.mlp={bits}"


PLUS_PARTS = {
    "inputs not centred": "-centre-inputs",
    "attention not balanced": "-balance-attention",
    "layers not centred": "-centre-layers",
    "no codebooks": "-codebooks",
    "uniform softmax": "-row-maximum-softmax round-to-nearest.softmax=true",
    "rounded to nearest": "-feed-back-errors round-to-nearest.rounds_weights=true",
    "own prompts alone": "polish.new=0",
    "with features": "polish.features=5",
    "with MAC": "balance-attention+compensate",
}
"""What the study `plus` changes of `carsam-plus`."""

STUDIES: dict[str, tuple[StudyRow, ...]] = {
    "paper": (*_paper("uniform", *UNIFORM_SOFTMAX), *_paper("logarithmic")),
    "floor": (StudyRow("rtn", "rtn"),),
    "plus": (
        StudyRow("carsam-plus", "carsam-plus"),
        *(
            StudyRow(f"plus, {n}", f"carsam-plus {what}", "carsam-plus")
            for n, what in PLUS_PARTS.items()
        ),
        StudyRow("plus, not polished", "carsam-plus -polish", "carsam-plus"),
        StudyRow(
            "plus, not polished, with MAC",
            "carsam-plus -polish balance-attention+compensate",
            "plus, not polished",
        ),
    ),
    "bits": (
        StudyRow("w4a4", "carsam-plus"),
        StudyRow(
            "operands of attention at 8 bits",
            "carsam-plus *attn=w4a8 *_to_image=w4a8 *_to_token=w4a8",
            "w4a4",
        ),
        StudyRow("activations at 8 bits", f"carsam-plus {_decoder('w4a8')}", "w4a4"),
        StudyRow("weights at 8 bits", f"carsam-plus {_decoder('w8a4')}", "w4a4"),
    ),
    "curve": tuple(
        curve_row(recipe, steps) for recipe, (_, counts) in CURVE.items() for steps in counts
    ),
    "peers": tuple(StudyRow(name, name, None if name == "rtn" else "rtn") for name in RECIPES),
    "parts": (
        StudyRow("saqsam", "saqsam"),
        StudyRow(
            "saqsam, no BIG and AGQ",
            " ".join(["saqsam -bimodal-integration", *UNIFORM_SOFTMAX]),
            "saqsam",
        ),
        StudyRow("erq", "erq"),
        StudyRow("erq, uniform softmax", " ".join(["erq", *UNIFORM_SOFTMAX]), "erq"),
        StudyRow("erq, norms not folded", "erq -fold-norms", "erq"),
        StudyRow("erq, penalty 0.01", "erq reduce-errors.penalty=0.01", "erq"),
        StudyRow("erq, penalty 1", "erq reduce-errors.penalty=1", "erq"),
        StudyRow("gptaq", "gptaq"),
        StudyRow("gptaq, all of the asymmetry", "gptaq feed-back-errors.asymmetry=1", "gptaq"),
        StudyRow("ptq4sam", "ptq4sam"),
        StudyRow(
            "ptq4sam, averaged keys",
            "ptq4sam round-to-nearest.decoder_keys=averaged-minmax",
            "ptq4sam",
        ),
        StudyRow("ahcqsam", "ahcqsam"),
        StudyRow("ahcqsam, no BIG", "ahcqsam -bimodal-integration", "ahcqsam"),
    ),
}
"""Studies by name.

`paper` has the four rows of CAR-SAM with both grids of the probabilities, `plus` what each part of
`carsam-plus` gives, `bits` what more bits give it, `curve` what more training gives, `parts` the
peers less what their papers or their released code add."""


def recipe_of(
    row: StudyRow, mode: str, bits: str, rules: Sequence[Rule], settings: Sequence[str]
) -> Recipe:
    """Return the recipe of a row.

    Args:
        mode: of `MODES`; `legacy` has the published faults.
        bits: such as `w4a4`.
        rules: exceptions, which win over the row's own.
        settings: `step.parameter=value`; those of steps that the recipe lacks are left out.

    Raises:
        UserError: there is no such recipe, part or parameter.
    """
    name, *changes = row.text.split()
    if name not in RECIPES:
        raise UserError(f'Row "{row.name}": no recipe is called {name}.')
    exceptions = [change for change in changes if re.fullmatch(r".+=(w\d+a\d+|float)", change)]
    changes = [change for change in changes if change not in exceptions]
    own_rules = [Rule.parse(exception) for exception in exceptions]
    recipe = replace(RECIPES[name], bits=Bits.parse(bits), rules=(*own_rules, *rules))
    left_out = [change for change in changes if change.startswith("-")]
    recipe = without(recipe, *(change[1:] for change in left_out))
    own = [change for change in changes if "=" in change]
    added = [change for change in changes if change not in left_out + own]
    for change in added:
        recipe = _with_step(recipe, change)
    steps = {step.name for step in recipe.all_steps}
    fitting = [setting for setting in settings if setting.partition(".")[0] in steps]
    recipe = recipe.with_parameters([*fitting, *own])
    recipe = with_faults(recipe) if mode == "legacy" else recipe
    make_steps(recipe)
    make_whole_model_steps(recipe)
    return recipe


def has_legacy(row: StudyRow) -> bool:
    """Tell whether the published faults have a place in the row: they are of reconstruction."""
    recipe = recipe_of(row, "strict", "w4a4", (), ())
    return any(step.name == "reconstruct" for step in recipe.steps)


def _with_step(recipe: Recipe, change: str) -> Recipe:
    """Return a recipe with one more step, of a change `PLACE+STEP`: STEP comes after PLACE."""
    place, _, added = change.partition("+")
    names = [step.name for step in recipe.steps]
    if place not in names or not added:
        raise UserError(
            f'"{change}" is neither -PART, STEP.PARAMETER=VALUE, PATTERN=BITS nor STEP+NEW, where '
            f"STEP is one of {', '.join(names)}."
        )
    after = names.index(place) + 1
    steps = (*recipe.steps[:after], Step(added), *recipe.steps[after:])
    return replace(recipe, steps=steps)


def without(recipe: Recipe, *names: str) -> Recipe:
    """Return a recipe without the steps and the merges of stages of some names.

    Raises:
        UserError: it has no such part.
    """
    missing = set(names) - {step.name for step in recipe.all_steps} - set(recipe.units)
    if missing:
        raise UserError(f"Recipe {recipe.name} has no {', '.join(sorted(missing))} to leave out.")
    kept = {
        place: tuple(step for step in getattr(recipe, place) if step.name not in names)
        for place in ("opening", "steps", "closing")
    }
    return replace(recipe, units=tuple(u for u in recipe.units if u not in names), **kept)

"""Methods: named recipes, each a short list of steps, and the steps by name."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from carsam.errors import UserError
from carsam.families.base import Site
from carsam.methods.base import UnitStep, WholeModelStep
from carsam.methods.budgets import with_budget
from carsam.methods.order import Ordered, Outcome, check_order
from carsam.methods.parameters import fits, in_words
from carsam.methods.recipe import FOUR_BITS, Bits, Recipe, Rule, Step
from carsam.methods.recipes import (
    ahcptq,
    ahcqsam,
    brecq,
    carsam,
    carsam_plus,
    erq,
    gptaq,
    gptq,
    ptq4sam,
    ptq4vit,
    qdrop,
    repq_vit,
    rtn,
    saqsam,
)
from carsam.methods.steps.folding.balance_attention import BalanceAttention
from carsam.methods.steps.folding.bimodal_integration import BimodalIntegration
from carsam.methods.steps.folding.centre_inputs import CentreInputs
from carsam.methods.steps.folding.centre_layers import CentreLayers
from carsam.methods.steps.folding.fold_norms import FoldNorms
from carsam.methods.steps.folding.reduce_condition import ReduceCondition
from carsam.methods.steps.mac.compensate import Compensate
from carsam.methods.steps.ranges.channel_grouping import ChannelGrouping
from carsam.methods.steps.ranges.codebooks import Codebooks
from carsam.methods.steps.ranges.hybrid_log_uniform import HybridLogUniform
from carsam.methods.steps.ranges.perceptual_clipping import PerceptualClipping
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.rounding.erq import ReduceErrors
from carsam.methods.steps.rounding.gptq import FeedBackErrors
from carsam.methods.steps.softmax.adaptive_granularity import AdaptiveGranularity
from carsam.methods.steps.softmax.logarithmic_softmax import LogarithmicSoftmax
from carsam.methods.steps.softmax.row_maximum_softmax import RowMaximumSoftmax
from carsam.methods.steps.softmax.twin_uniform import TwinUniform
from carsam.methods.steps.training.legacy import ReconstructUnfinished, with_faults
from carsam.methods.steps.training.polish import Polish
from carsam.methods.steps.training.reconstruct import Reconstruct
from carsam.simulation.expected import UNFINISHED

STEPS: dict[str, Any] = {
    "adaptive-granularity": AdaptiveGranularity,
    "balance-attention": BalanceAttention,
    "bimodal-integration": BimodalIntegration,
    "centre-layers": CentreLayers,
    "channel-grouping": ChannelGrouping,
    "codebooks": Codebooks,
    "compensate": Compensate,
    "feed-back-errors": FeedBackErrors,
    "fold-norms": FoldNorms,
    "hybrid-log-uniform": HybridLogUniform,
    "logarithmic-softmax": LogarithmicSoftmax,
    "perceptual-clipping": PerceptualClipping,
    "reconstruct": Reconstruct,
    UNFINISHED: ReconstructUnfinished,
    "reduce-condition": ReduceCondition,
    "reduce-errors": ReduceErrors,
    "round-to-nearest": RoundToNearest,
    "row-maximum-softmax": RowMaximumSoftmax,
    "twin-uniform": TwinUniform,
}
"""Steps by name; each is a frozen dataclass whose fields are its parameters."""

PAPER_NAMES: dict[str, str] = {
    "adaptive-granularity": "AGQ of PTQ4SAM; log-sqrt2 of RepQ-ViT with granularities 2",
    "bimodal-integration": "BIG of PTQ4SAM",
    "channel-grouping": "CAG of AHCPTQ",
    "compensate": "MAC of CAR-SAM",
    "cross+cross": "JCAR of CAR-SAM",
    "feed-back-errors": "GPTQ; GPTAQ with asymmetry",
    "fold-norms": "reparameterization of RepQ-ViT",
    "hybrid-log-uniform": "HLUQ of AHCPTQ",
    "logarithmic-softmax": "LNQ of AHCQ-SAM",
    "perceptual-clipping": "PCC of SAQ-SAM",
    "reconstruct": "QDrop, AdaRound, LSQ; PAR of SAQ-SAM with interaction",
    "reduce-condition": "ACNR of AHCQ-SAM",
    "reduce-errors": "Aqer and Wqer of ERQ",
    "twin-uniform": "twin uniform quantization of PTQ4ViT",
}
"""What papers call the steps and units that come from one, by the name they have here."""

OPENING_STEPS: dict[str, Any] = {"centre-inputs": CentreInputs}
"""Steps that run once, before the first unit, by name; they leave the float model's outputs, and
the blocks of the encoder as they are.
"""

CLOSING_STEPS: dict[str, Any] = {"polish": Polish}
"""Steps that run once, after the last unit, by name."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        rtn.RECIPE,
        qdrop.RECIPE,
        brecq.RECIPE,
        ptq4sam.RECIPE,
        ahcptq.RECIPE,
        ahcqsam.RECIPE,
        saqsam.RECIPE,
        gptq.RECIPE,
        gptaq.RECIPE,
        erq.RECIPE,
        repq_vit.RECIPE,
        ptq4vit.RECIPE,
        carsam.RECIPE,
        carsam_plus.RECIPE,
    )
}
"""Recipes by name."""

LEGACY_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (with_faults(RECIPES[name]) for name in ("qdrop", "ptq4sam"))
}
"""Recipes with the published faults, by name; never part of `all`."""


def recipe_names(text: str) -> tuple[str, ...]:
    """Return the names in `text`, separated by commas; every recipe's for `all`."""
    return tuple(RECIPES) if text == "all" else tuple(text.split(","))


def make_recipe(
    name: str,
    bits: str,
    rules: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    budget: str = "fast",
) -> Recipe:
    """Return a named recipe with its bits, rules and changed parameters.

    Args:
        name: key of `RECIPES`.
        bits: such as `w4a4`.
        rules: `PATTERN=BITS`, later ones override earlier ones.
        settings: `step.parameter=value`.
        budget: one of `BUDGETS`: how long training may take.

    Raises:
        UserError: a name, the bits, a rule or a parameter is not understood.
    """
    known = {**RECIPES, **LEGACY_RECIPES}
    if name not in known:
        raise UserError(f"Recipe {name} is not known; expected one of {', '.join(known)}.")
    parsed = tuple(Rule.parse(rule) for rule in rules)
    recipe = with_budget(known[name], budget).with_parameters(settings)
    recipe = replace(recipe, bits=Bits.parse(bits), rules=parsed)
    check_steps(recipe)
    return recipe


def check_steps(recipe: Recipe) -> None:
    """Check steps and parameters of a recipe, and the order in which they run.

    Raises:
        UserError: one is not known, or they contradict each other.
    """
    opening, closing = make_whole_model_steps(recipe)
    steps: tuple[Ordered, ...] = (*opening, *make_steps(recipe), *closing)
    names = (step.name for step in recipe.all_steps)
    check_order(recipe.name, tuple(zip(names, steps, strict=True)), _makers)


def _makers(outcome: Outcome) -> list[str]:
    return [name for name, step in STEPS.items() if name != UNFINISHED and outcome in step().makes]


def make_steps(recipe: Recipe) -> tuple[UnitStep, ...]:
    """Return the recipe's steps, ready to run; an unknown step or parameter is an error."""
    return tuple(_make(step, STEPS) for step in recipe.steps)


def make_whole_model_steps(
    recipe: Recipe,
) -> tuple[tuple[WholeModelStep, ...], tuple[WholeModelStep, ...]]:
    """Return the recipe's opening and closing steps, as `make_steps` does."""
    opening = tuple(_make(step, OPENING_STEPS) for step in recipe.opening)
    return opening, tuple(_make(step, CLOSING_STEPS) for step in recipe.closing)


def idle_steps(recipe: Recipe, sites: Sequence[Site]) -> list[str]:
    """Return the names of a recipe's steps that have nothing to do, because of its bits and rules.

    Raises:
        UserError: a step has nothing to do at any bits.
    """
    idle = []
    for step, made in zip(recipe.steps, make_steps(recipe), strict=True):
        if not any(made.acts_on(site, FOUR_BITS) for site in sites):
            changed = ", ".join(f"{name}={value}" for name, value in step.parameters.items())
            raise UserError(
                f"Step {step.name} ({changed}) fits nothing in this model; change its parameters "
                "or leave it out."
            )
        if not any(made.acts_on(site, recipe.bits_of(site.path, site.kind)) for site in sites):
            idle.append(step.name)
    return idle


def _make(step: Step, registry: Mapping[str, Any]) -> Any:
    if step.name not in registry:
        raise UserError(f"Step {step.name} is not known; expected one of {', '.join(registry)}.")
    types = {entry.name: entry.type for entry in fields(registry[step.name])}
    unknown = set(step.parameters) - set(types)
    if unknown:
        raise UserError(
            f"Step {step.name} has no parameter {', '.join(sorted(unknown))}; "
            f"its parameters are {', '.join(sorted(types)) or 'none'}."
        )
    for name, value in step.parameters.items():
        if not fits(value, types[name]):
            raise UserError(
                f"Parameter {name} of step {step.name} is {value}; expected "
                f"{in_words(types[name])}."
            )
    words = {name: str(value) for name, value in step.parameters.items() if types[name] is str}
    return registry[step.name](**{**step.parameters, **words})

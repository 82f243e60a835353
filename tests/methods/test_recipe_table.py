"""What every recipe is, written out as a table, and compared with what it does to a tiny SAM.

Nothing is read from the recipes themselves: each is run, its steps are watched, and the table's
line is made anew from which units they ran on, in which order, and which of them put which grid
where.
"""

from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.families import FAMILIES
from carsam.families.base import SiteType
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.observers import (
    ACTIVATION_OBSERVERS,
    NEED_HISTOGRAM,
    WEIGHT_OBSERVERS,
    activation_grid,
)
from carsam.methods.base import Unit
from carsam.methods.registry import CLOSING_STEPS, LEGACY_RECIPES, OPENING_STEPS, RECIPES, STEPS
from carsam.simulation import slots
from carsam.simulation.layers import weight_to_rows

PARTS = {"encoder": "attn | mlp", "decoder": "self | t2i | mlp | i2t"}
BLOCKS = {"encoder": "attn + mlp", "decoder": "self | t2i | mlp | i2t"}
JOINT_CROSS = {"encoder": "attn + mlp", "decoder": "self | t2i + mlp + i2t"}  # JCAR
JOINT_BLOCK = {"encoder": "attn + mlp", "decoder": "self + t2i + mlp + i2t"}
"""Units, divided by bars, of an encoder block and of a two-way block."""

INPUTS = "encoder.*.qkv decoder.*.[qkv] *.mlp.lin1"
"""Inputs of the layers that read tokens."""

AVERAGED = (
    "round-to-nearest activations=averaged-minmax decoder_keys=mse rounds_weights=False"  # PTQ4SAM
)

TABLE: dict[str, dict[str, Any]] = {
    "rtn": {
        "steps": ["round-to-nearest"],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {},
    },
    "qdrop": {
        "steps": ["round-to-nearest rounds_weights=False", "reconstruct"],
        "units": BLOCKS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {},
    },
    "brecq": {
        "steps": [
            "round-to-nearest rounds_weights=False",
            "reconstruct trains_scales=False keep=0.0 keep_inputs=1.0",
            "reconstruct trains_weights=False keep=1.0 keep_inputs=0.0",
        ],
        "units": BLOCKS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {},
    },
    "ptq4sam": {
        "steps": [
            "bimodal-integration",
            AVERAGED,
            "adaptive-granularity",
            "reconstruct",
        ],
        "units": PARTS,
        "ranges": {"activations": "averaged-minmax", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.softmax": "log2 by adaptive-granularity"},
    },
    "ahcptq": {
        "steps": [
            "bimodal-integration",
            AVERAGED,
            "adaptive-granularity",
            "hybrid-log-uniform",
            "channel-grouping",
            "reconstruct",
        ],
        "units": PARTS,
        "ranges": {"activations": "averaged-minmax", "decoder keys": "mse", "weights": "mse"},
        "grids": {
            "*.softmax": "log2 by adaptive-granularity",
            "*.mlp.lin2": "log-uniform by hybrid-log-uniform",
            INPUTS: "grouped-uniform by channel-grouping",
        },
    },
    "ahcqsam": {
        "steps": [
            "bimodal-integration",
            AVERAGED,
            "reduce-condition",
            AVERAGED,
            "logarithmic-softmax",
            "hybrid-log-uniform",
            "channel-grouping",
            "reconstruct",
        ],
        "units": JOINT_BLOCK,
        "ranges": {"activations": "averaged-minmax", "decoder keys": "mse", "weights": "mse"},
        "grids": {
            "*.softmax": "log1p by logarithmic-softmax",
            "*.mlp.lin2": "log-uniform by hybrid-log-uniform",
            INPUTS: "grouped-uniform by channel-grouping",
        },
    },
    "saqsam": {
        "steps": [
            "bimodal-integration",
            "round-to-nearest rounds_weights=False softmax=False",
            "perceptual-clipping",
            "adaptive-granularity",
            "reconstruct interaction=1.0",
        ],
        "units": JOINT_BLOCK,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {
            "decoder.*.[qk] decoder.*.query decoder.*.key": "uniform by perceptual-clipping",
            "*.softmax": "log2 by adaptive-granularity",
        },
    },
    "gptq": {
        "steps": ["round-to-nearest rounds_weights=False", "feed-back-errors"],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.weight": "uniform by feed-back-errors"},
    },
    "gptaq": {
        "steps": [
            "round-to-nearest rounds_weights=False",
            "feed-back-errors damping=0.1 asymmetry=0.25",
        ],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.weight": "uniform by feed-back-errors"},
    },
    "erq": {
        "steps": [
            "fold-norms",
            "round-to-nearest rounds_weights=False softmax=False",
            "adaptive-granularity power=2.0 granularities=2",
            "reduce-errors",
        ],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {
            "*.softmax": "log2 by adaptive-granularity",
            "*.weight": "uniform by reduce-errors",
        },
    },
    "repq-vit": {
        "steps": [
            "fold-norms",
            "round-to-nearest softmax=False",
            "adaptive-granularity power=2.0 granularities=2",
        ],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.softmax": "log2 by adaptive-granularity"},
    },
    "ptq4vit": {
        "steps": ["round-to-nearest softmax=False", "twin-uniform"],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.softmax *.mlp.lin2": "twin-uniform by twin-uniform"},
    },
    "carsam": {
        "steps": [
            "compensate",  # MAC
            "round-to-nearest rounds_weights=False softmax=False",
            "adaptive-granularity power=2.0 queries=64 granularities=2",
            "reconstruct",
        ],
        "units": JOINT_CROSS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.softmax": "log2 by adaptive-granularity"},
    },
    "carsam-plus": {
        "opening": ["centre-inputs"],
        "steps": [
            "balance-attention",
            "centre-layers",
            "round-to-nearest rounds_weights=False softmax=False",
            "codebooks",
            "row-maximum-softmax",
            "feed-back-errors",
        ],
        "closing": ["polish"],
        "units": PARTS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {
            "*.softmax": "row-maximum by row-maximum-softmax",
            "*.qkv *.proj *.q *.k *.v *.o *.lin1 *.lin2 *.neck": "codebook by codebooks",
            "*.weight": "uniform by feed-back-errors",
        },
    },
    "qdrop-legacy": {
        "steps": ["round-to-nearest rounds_weights=False", "reconstruct-unfinished"],
        "units": BLOCKS,
        "ranges": {"activations": "mse", "decoder keys": "mse", "weights": "mse"},
        "grids": {},
        "mode": "legacy",
    },
    "ptq4sam-legacy": {
        "steps": [
            "bimodal-integration",
            AVERAGED,
            "adaptive-granularity",
            "reconstruct-unfinished",
        ],
        "units": PARTS,
        "ranges": {"activations": "averaged-minmax", "decoder keys": "mse", "weights": "mse"},
        "grids": {"*.softmax": "log2 by adaptive-granularity"},
        "mode": "legacy",
    },
}
"""Steps in the order they run, with the parameters that are not their defaults; how blocks are cut
into units; the observers of ranges; and which step puts which grid where, other than uniform grids
by `round-to-nearest`. Training changes scales only."""

OPERANDS = ("query", "key", "value", "softmax")
ATTENTIONS = [
    ("encoder", "windowed"),
    ("encoder", "global"),
    ("decoder", "self"),
    ("decoder", "t2i"),
    ("decoder", "i2t"),
]
LAYERS = [
    *(f"encoder.{span}.{name}" for span in ("windowed", "global") for name in ("qkv", "proj")),
    *(f"decoder.{name}.{layer}" for name in ("self", "t2i", "i2t") for layer in "qkvo"),
    *(f"{part}.mlp.{layer}" for part in ("encoder", "decoder") for layer in ("lin1", "lin2")),
    "encoder.neck",
]
PLACES = [
    *(f"{part}.{kind}.{operand}" for part, kind in ATTENTIONS for operand in OPERANDS),
    *LAYERS,
    *(f"{layer}.weight" for layer in LAYERS),
]
"""Everything that a recipe quantizes: operands of attentions, inputs of layers, and weights."""

SHORT = {
    "probabilities": "softmax",
    "self_attn": "self",
    "cross_attn_token_to_image": "t2i",
    "final_attn_token_to_image": "t2i",
    "cross_attn_image_to_token": "i2t",
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "out_proj": "o",
}
FEW = {  # of everything that takes long, and is left out when steps are compared
    "reconstruct": ("steps", 1),
    "reconstruct-unfinished": ("steps", 1),
    "polish": ("steps", 1),
    "perceptual-clipping": ("rounds", 1),
    "reduce-condition": ("iterations", 2),
    "twin-uniform": ("shifts", 2),
}
TRAINING = ("reconstruct", "reconstruct-unfinished", "polish")


def expected(name: str) -> dict[str, Any]:
    """The table's line with what it leaves unsaid, and a grid for every place."""
    line = {"opening": [], "closing": [], "mode": "simulated", **TABLE[name]}
    grids = dict.fromkeys(PLACES, "uniform by round-to-nearest")
    for patterns, grid in line["grids"].items():
        fitting = [p for p in PLACES if any(fnmatchcase(p, each) for each in patterns.split())]
        assert fitting, patterns
        grids |= dict.fromkeys(fitting, grid)
    return {**line, "grids": grids}


@dataclass(frozen=True)
class Run:
    """One run of a step: on which unit (None for the whole model), and what it put where."""

    step: Any
    unit: Unit | None
    changed: dict[tuple[Any, str], Any]


def fillings(model, sites):
    """What stands in every slot, by site and operand; `weight` is the weight's grid."""
    return {
        (site, operand): filling
        for site in sites
        for operand, filling in slots.fillings(model, site).items()
    }


class Watch:
    """Runs every step as it is, and writes down what it did."""

    def __init__(self, monkeypatch):
        self.runs: list[Run] = []
        self.fitting = {
            "activations": set(ACTIVATION_OBSERVERS),
            "decoder keys": set(ACTIVATION_OBSERVERS),
            "weights": set(WEIGHT_OBSERVERS),
        }
        self._inside = False
        kinds = {**STEPS, **OPENING_STEPS, **CLOSING_STEPS}
        self._names = {kind: name for name, kind in kinds.items()}
        holders = {h for kind in kinds.values() for h in kind.__mro__ if "run_" in vars(h)}
        for holder in holders:
            monkeypatch.setattr(holder, "run_", self._watched(holder.run_))

    def _watched(self, run_):
        def recorded(step, target):
            if self._inside:  # called by its subclass
                return run_(step, target)
            sites = [site for site, _ in target.sites]
            before = fillings(target.model, sites)
            weights = self._rows(target)
            self._inside = True
            run_(step, target)
            self._inside = False
            changed = {
                key: filling
                for key, filling in fillings(target.model, sites).items()
                if filling is not before[key]
            }
            unit = target if isinstance(target, Unit) else None
            self.runs.append(Run(step, unit, changed))
            if self.name(step) == "round-to-nearest":
                self._sift_observers(target, weights, changed)

        return recorded

    def name(self, step):
        return self._names[type(step)]

    def said(self, step):
        """The step's name and the parameters that are not its defaults."""
        few, _ = FEW.get(self.name(step), (None, None))
        values = {f.name: (getattr(step, f.name), f.default) for f in fields(step) if f.name != few}
        changed = (f"{name}={v}" for name, (v, default) in values.items() if v != default)
        return " ".join([self.name(step), *changed])

    def _rows(self, target):
        layers = {site: slots.weight_layer(target.model, site) for site, _ in target.sites}
        return {
            site: weight_to_rows(layer.layer, layer.layer.weight).clone()
            for site, layer in layers.items()
            if layer is not None
        }

    def _sift_observers(self, unit, weights, changed):
        """Keep the observers with which every grid comes out as it did."""
        for (site, operand), grid in changed.items():
            if operand == "weight":
                self._sift("weights", grid, lambda o, s=site: _weight_grid(o, weights[s]))
            else:
                is_key = operand == "key" and site.path.startswith("mask_decoder.")
                what = "decoder keys" if is_key else "activations"
                statistics = unit.statistics[site.path, operand]
                if statistics.histogram is None:
                    self.fitting[what] -= NEED_HISTOGRAM
                self._sift(what, grid, lambda o, s=statistics: _activation_grid(o, s))

    def _sift(self, what, grid, make):
        made = {observer: make(observer) for observer in self.fitting[what]}
        self.fitting[what] = {
            observer
            for observer, other in made.items()
            if torch.equal(other.scale, grid.scale)
            and torch.equal(other.zero_point, grid.zero_point)
        }


def _weight_grid(observer, rows):
    return UniformGrid.from_range(*WEIGHT_OBSERVERS[observer](rows, 4), 4)


def _activation_grid(observer, statistics):
    return activation_grid(statistics, observer, 4, torch.device("cpu"))


def place_of(model, site, operand):
    """The name in `PLACES` of an operand or a weight."""
    parts = [SHORT.get(part, part) for part in site.path.split(".")]
    if "neck" in parts:
        name = "encoder.neck"
    elif parts[0] == "vision_encoder":
        block = model.vision_encoder.layers[int(parts[2])]
        kind = "mlp" if "mlp" in parts else "windowed" if block.window_size else "global"
        name = ".".join(["encoder", kind, *parts[4:]])
    else:
        name = ".".join(["decoder", *parts[parts.index("transformer") + 1 :]])
        name = name.replace("layers.0.", "").replace("layers.1.", "")
    if operand == "input":
        return name
    return f"{name}.{SHORT.get(operand, operand)}"


def cuts_of(names):
    """How the blocks of encoder and decoder were cut; all other units are alike in all recipes."""
    cuts: dict[str, list[str]] = {}
    for name in names:
        paths = [path.rpartition(".") for path in name.split(" + ")]
        stages = " + ".join(SHORT.get(stage, stage) for _, _, stage in paths)
        cuts.setdefault(alike(block for block, _, _ in paths), []).append(stages)
    parts = {"encoder": "vision_encoder.layers.", "decoder": "mask_decoder.transformer.layers."}
    return {
        part: alike(" | ".join(cut) for block, cut in cuts.items() if block.startswith(prefix))
        for part, prefix in parts.items()
    }


def alike(values):
    """The one value that all are."""
    (value,) = set(values)
    return value


def grids_of(watch, model):
    """Of every place, the kind of its grid at the end and the step that put the first one there."""
    setters = {}
    for run in watch.runs:
        if watch.name(run.step) not in TRAINING:
            setters |= dict.fromkeys(run.changed, watch.name(run.step))
    grids: dict[str, set[str]] = {}
    standing = fillings(model.module, model.sites)
    for (site, operand), step in setters.items():
        filling = standing[site, operand]
        filling = getattr(filling, "grid", filling)  # a legacy model drops some values of it
        kind = filling.name if isinstance(filling, Grid) else "uniform"  # or leaves a weight soft
        grids.setdefault(place_of(model.module, site, operand), set()).add(f"{kind} by {step}")
    return {place: alike(found) for place, found in grids.items()}


def line_of(watch, model):
    """The table's line of what was watched."""
    on_units = [place for place, run in enumerate(watch.runs) if run.unit is not None]
    first, last = on_units[0], on_units[-1] + 1
    by_unit: dict[str, list[str]] = {}
    for run in watch.runs[first:last]:
        by_unit.setdefault(run.unit.plan.name, []).append(watch.said(run.step))
    return {
        "opening": [watch.said(run.step) for run in watch.runs[:first]],
        "steps": list(alike(map(tuple, by_unit.values()))),
        "closing": [watch.said(run.step) for run in watch.runs[last:]],
        "units": cuts_of(by_unit),
        "ranges": {what: alike(names) for what, names in watch.fitting.items()},
        "grids": grids_of(watch, model),
        "mode": model.mode,
    }


def run_recipe(tiny_sam, image_folder, name):
    steps = {step.name for step in {**RECIPES, **LEGACY_RECIPES}[name].all_steps}
    settings = [f"{step}.{few}={count}" for step, (few, count) in FEW.items() if step in steps]
    return quantize(tiny_sam, image_folder, name, count=2, prompts_per_image=2, settings=settings)


@pytest.mark.filterwarnings("ignore:.*reconstruction raised the loss", "ignore:Polish raised")
@pytest.mark.parametrize("name", [*RECIPES, *LEGACY_RECIPES])
def test_the_recipe_does_what_the_table_says(tiny_sam, image_folder, monkeypatch, name):
    watch = Watch(monkeypatch)
    model = run_recipe(tiny_sam, image_folder, name)
    assert line_of(watch, model) == expected(name)


def test_the_table_has_a_line_for_every_recipe():
    assert list(TABLE) == [*RECIPES, *LEGACY_RECIPES]


def test_the_model_has_attentions_of_all_five_kinds(tiny_sam):
    sites = FAMILIES["sam"].sites(tiny_sam)
    attentions = [site for site in sites if site.type is SiteType.ATTENTION]
    found = {place_of(tiny_sam, site, "probabilities") for site in attentions}
    assert found == {f"{part}.{kind}.softmax" for part, kind in ATTENTIONS}

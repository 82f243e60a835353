"""Whether JCAR's joint unit ends below its parts on its own loss, on images seen and unseen.

    python benchmarks/joint_units.py COCO [--only NAME] [--seeds 0,1] [--blocks 0,1]
        [--out FILE]

COCO holds `images_train` and `annotations/train.json`. Of sam-mini at w4a4 with a float encoder,
each pair of cross-attentions (with the MLP between them) is trained as three units and as one, each
from float inputs, and then measured as one, rounded hard, nothing dropped: the loss of JCAR's unit.
Started again, it continues with what is left; the numbers go to
benchmarks/results/joint_units.json.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from decoder_states import Decoder, float_decoder
from provenance import provenance

from carsam.calibration.observe import run_observed
from carsam.families.base import State
from carsam.methods.base import Unit
from carsam.methods.recipe import Bits, Recipe, Rule, Step
from carsam.methods.registry import make_steps
from carsam.methods.steps.jcar.joint_loss import JointLoss
from carsam.methods.steps.ranges.round_to_nearest import GRIDS_FIRST
from carsam.methods.steps.training.mask_loss import run_stages
from carsam.methods.units import UnitPlan
from carsam.progress import Silent
from carsam.simulation.trainable import SoftRounding

RESULT = Path(__file__).parent / "results" / "joint_units.json"
SEEN, UNSEEN, PROMPTS = 6, 12, 4
ONLY_DECODER = (Rule.parse("encoder.*=float"),)
SOFTMAX = Step("adaptive-granularity", {"granularities": "2", "power": 2.0, "queries": 64})
JOINT, PARTS = ("cross+cross",), ()


@dataclass(frozen=True)
class Variant:
    """How a pair is trained: its units, and what differs from `reconstruct`'s defaults."""

    units: tuple[str, ...]
    reconstruct: dict[str, Any] = field(default_factory=dict)


UNDROPPED = {"keep": 1.0, "keep_inputs": 1.0}
PARTS_FIRST = UNDROPPED | {"parts_first": True}
VARIANTS = {
    "parts, undropped": Variant(PARTS, UNDROPPED),
    "joint, undropped": Variant(JOINT, UNDROPPED),
    "joint, undropped, parts first": Variant(JOINT, PARTS_FIRST),
    "parts, undropped, 600 steps": Variant(PARTS, UNDROPPED | {"steps": 600}),
    "joint, undropped, parts first, 600 steps": Variant(JOINT, PARTS_FIRST | {"steps": 600}),
    "joint, undropped, in turn": Variant(JOINT, UNDROPPED | {"in_turn": True}),
}


@dataclass(frozen=True)
class Pair:
    """One pair of cross-attentions with the states before it, seen images first."""

    decoder: Decoder
    block: str
    states: Sequence[State]

    def plans(self, units: tuple[str, ...]) -> tuple[UnitPlan, ...]:
        """Return the units that the pair is cut into."""
        recipe = Recipe("pair", (), units, Bits(4, 4), ONLY_DECODER)
        return tuple(
            plan
            for plan in self.decoder.plans(recipe)
            if all(s.block == self.block and "self" not in s.path for s in plan.stages)
        )

    @torch.no_grad()
    def measured(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Train the pair and return its loss as one unit, by output, seen and unseen."""
        model, started = copy.deepcopy(self.decoder.model), time.process_time()
        reconstruct = Step("reconstruct", variant.reconstruct)
        steps = make_steps(Recipe("pair", (GRIDS_FIRST, SOFTMAX, reconstruct)))
        inputs = quantized = self.states[:SEEN]
        notes: list[dict[str, Any]] = []
        with undecided() as shares:
            for index, plan in enumerate(self.plans(variant.units)):
                targets, statistics = run_observed(model, plan, inputs, lambda *_: True, Silent())
                unit = Unit(model, plan, inputs, quantized, targets, statistics, seed + index)
                for step in steps:
                    step.run_(unit)
                notes += [note for note in unit.notes if note["step"] == "reconstruct"]
                inputs, quantized = targets, [plan.run(model, state) for state in quantized]
        seconds = time.process_time() - started
        (joint,) = self.plans(JOINT)
        targets = [joint.run(self.decoder.model, state) for state in self.states]
        loss = JointLoss(
            Unit(model, joint, self.states[:SEEN], self.states[:SEEN], targets[:SEEN], {})
        )
        losses = [
            float(loss(joint.run(model, state), target))
            for state, target in zip(self.states, targets, strict=True)
        ]
        return {
            "seen": sum(losses[:SEEN]) / SEEN,
            "unseen": sum(losses[SEEN:]) / UNSEEN,
            "soft": [note["loss_by_step"][-1] for note in notes],
            "hard": [note["loss_after"] for note in notes],
            "undecided": sum(shares) / len(shares) if shares else 0.0,
            "processor_seconds": round(seconds, 1),
        }


@contextmanager
def undecided() -> Iterator[list[float]]:
    """Collect the shares of weights that are rounded while h is in (0.05, 0.95)."""
    shares: list[float] = []

    def note(rounding: SoftRounding, name: str, value: Any) -> None:
        if name == "hard" and value and not rounding.__dict__.get("hard"):
            share = rounding.share.detach()
            shares.append(float(((share > 0.05) & (share < 0.95)).float().mean()))
        plain(rounding, name, value)

    plain = SoftRounding.__setattr__
    SoftRounding.__setattr__ = note  # type: ignore[method-assign, assignment]
    try:
        yield shares
    finally:
        SoftRounding.__setattr__ = plain  # type: ignore[method-assign]


@torch.no_grad()
def pairs(coco: Path, seed: int, blocks: Sequence[str]) -> list[Pair]:
    """Return the pairs of some two-way blocks with their float states."""
    decoder = float_decoder(coco, SEEN + UNSEEN, 2 * PROMPTS, seed)
    states = [{**state, "prompts": state["prompts"][:, ::2]} for state in decoder.states]
    paths = [stage.path for stage in decoder.stages]
    found = []
    for block in (f"mask_decoder.transformer.layers.{number}" for number in blocks):
        before = decoder.stages[: paths.index(f"{block}.cross_attn_token_to_image")]
        inputs = [run_stages(decoder.model, before, state) for state in states]
        found.append(Pair(decoder, block, inputs))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("coco", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--blocks", default="0,1")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = {"about": provenance("torch", "transformers"), "results": []}
    if arguments.out.exists():
        report["results"] = json.loads(arguments.out.read_text())["results"]
    known = {(row["variant"], row["block"], row["seed"]) for row in report["results"]}
    for seed in map(int, arguments.seeds.split(",")):
        for pair in pairs(arguments.coco, seed, arguments.blocks.split(",")):
            for name, variant in VARIANTS.items():
                if arguments.only not in name or (name, pair.block, seed) in known:
                    continue
                row = {"variant": name, "block": pair.block, "seed": seed}
                row |= pair.measured(variant, seed)
                report["results"].append(row)
                arguments.out.write_text(json.dumps(report, indent=1) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

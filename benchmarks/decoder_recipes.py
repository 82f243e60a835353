"""What MAC and JCAR give to sam-mini's decoder at w4a4, by agreement with the float masks.

    python benchmarks/decoder_recipes.py COCO [--only NAME] [--seeds 0,1,2] [--out FILE]

COCO holds `images_train` and `annotations/train.json`. The encoder stays in float and runs once;
the decoder is quantized on some images, and the mean IoU of its masks with the float model's is
taken on others, 8 boxes each. For every attention the squared error of what leaves its product,
relative to the float one's energy, is noted as MAC sees it. Started again, it continues with what
is left; the numbers go to benchmarks/results/decoder_recipes.json.
"""

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from decoder_states import Decoder, float_decoder

from carsam.calibration.observe import run_observed
from carsam.families.base import State
from carsam.methods.base import Unit, WholeModel
from carsam.methods.recipe import Recipe, Rule, Step
from carsam.methods.registry import RECIPES, check_steps, make_steps, make_whole_model_steps
from carsam.methods.steps.training.mask_loss import run_stages, stages_to_masks
from carsam.methods.steps.training.teacher import Teacher
from carsam.progress import Silent

RESULT = Path(__file__).parent / "results" / "decoder_recipes.json"
SEEN, UNSEEN, BOXES = 6, 12, 8
CARSAM, PLUS = RECIPES["carsam"], RECIPES["carsam-plus"]
NEAREST = Step("round-to-nearest")
LOGARITHMIC = next(step for step in CARSAM.steps if step.name == "adaptive-granularity")
ROW_MAXIMUM = Step("row-maximum-softmax")


def mac(**parameters: Any) -> Step:
    """Return MAC with parameters that are not its defaults."""
    return Step("compensate", parameters)


def plus(*compensation: Step, polish: int) -> Recipe:
    """Return carsam-plus with a compensation after the balancing, and so many steps of polish."""
    balance, *rest = PLUS.steps
    closing = (Step("polish", {"steps": polish}),) if polish else ()
    return replace(PLUS, steps=(balance, *compensation, *rest), closing=closing)


VARIANTS = {
    "nearest, uniform": Recipe("r", (NEAREST,)),
    "nearest, uniform, MAC": Recipe("r", (mac(), NEAREST)),
    "nearest, log": Recipe("r", (NEAREST, LOGARITHMIC)),
    "nearest, log, MAC": Recipe("r", (mac(), NEAREST, LOGARITHMIC)),
    "nearest, log, MAC v": Recipe("r", (mac(projections="v"), NEAREST, LOGARITHMIC)),
    "nearest, log, MAC weighted": Recipe("r", (mac(weighted=True), NEAREST, LOGARITHMIC)),
    "nearest, log, MAC asymmetric": Recipe("r", (mac(asymmetric=True), NEAREST, LOGARITHMIC)),
    "nearest, log, MAC weighted, asymmetric": Recipe(
        "r", (mac(weighted=True, asymmetric=True), NEAREST, LOGARITHMIC)
    ),
    "plus, no polish": plus(polish=0),
    "plus, no polish, MAC": plus(mac(), polish=0),
    "plus, no polish, MAC weighted": plus(mac(weighted=True), polish=0),
    "plus, no polish, MAC asymmetric": plus(mac(asymmetric=True), polish=0),
    "plus, polish 200": plus(polish=200),
    "plus, polish 200, MAC": plus(mac(), polish=200),
}


@torch.no_grad()
def measured(decoder: Decoder, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Quantize the decoder on the first images; return its agreement on the others."""
    recipe = replace(recipe, rules=(Rule.parse("encoder.*=float"),))
    check_steps(recipe)
    model, started = copy.deepcopy(decoder.model), time.process_time()
    to_masks = stages_to_masks(decoder.stages)
    opening, closing = make_whole_model_steps(recipe)
    inputs = quantized = decoder.states[:SEEN]
    sites = tuple(pair for plan in decoder.plans(recipe) for pair in plan.sites)
    whole = WholeModel(model, to_masks, sites, inputs, seed=seed, progress=Silent())
    for step in opening:
        step.run_(whole)
    teacher = Teacher(model, decoder.stages, inputs) if closing else None
    steps, notes = make_steps(recipe), []
    for index, plan in enumerate(decoder.plans(recipe)):
        targets, statistics = run_observed(model, plan, inputs, lambda *_: True, Silent())
        unit = Unit(model, plan, inputs, quantized, targets, statistics, seed + index)
        for number, step in enumerate(steps, 1):
            step.run_(replace(unit, later=steps[number:]))
        notes += [note for note in unit.notes if note["step"] == "compensate"]
        inputs, quantized = targets, [plan.run(model, state) for state in quantized]
    for step in closing:
        step.run_(replace(whole, teacher=teacher))
    seconds = time.process_time() - started
    overlaps = [
        overlap
        for state in decoder.states[SEEN:]
        for overlap in agreement(
            run_stages(model, to_masks, state), run_stages(decoder.model, to_masks, state)
        )
    ]
    return {
        "agreement": 100 * sum(overlaps) / len(overlaps),
        "masks": len(overlaps),
        "processor_seconds": round(seconds, 1),
        "notes": notes,
    }


def agreement(outputs: State, targets: State) -> list[float]:
    """Return the IoU of every box's mask with the float model's."""
    found, expected = (state["masks"][:, 0] > 0 for state in (outputs, targets))
    union = (found | expected).sum((1, 2)).clamp(min=1)
    overlaps: list[float] = ((found & expected).sum((1, 2)) / union).tolist()
    return overlaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("coco", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"results": []}
    known = {(row["variant"], row["seed"]) for row in report["results"]}
    for seed in map(int, arguments.seeds.split(",")):
        decoder = float_decoder(arguments.coco, SEEN + UNSEEN, BOXES, seed)
        for name, recipe in VARIANTS.items():
            if arguments.only not in name or (name, seed) in known:
                continue
            row = {"variant": name, "seed": seed, **measured(decoder, recipe, seed)}
            report["results"].append(row)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
            print(json.dumps({**row, "notes": len(row["notes"])}), flush=True)


if __name__ == "__main__":
    main()

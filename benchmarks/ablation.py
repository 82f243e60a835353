"""What each part of CAR-SAM and of carsam-plus gives, strict AP on val_dev, three seeds.

    python benchmarks/ablation.py DATA [--threads 2]

First the paper's ablation (none, MAC, JCAR, both), then carsam-plus without one part at a time, and
with MAC added. Started again, it continues with the jobs that are left. The numbers go to
benchmarks/results/ablation.json.
"""

from dataclasses import replace
from pathlib import Path

from accuracy_jobs import Job, main
from study_rows import without

from carsam.methods.recipe import Bits, Step
from carsam.methods.registry import RECIPES

RESULT = Path(__file__).parent / "results" / "ablation.json"
BITS = ("w4a4", "w6a6")
SEEDS = range(3)
JOINT = "cross+cross"
PLUS = RECIPES["carsam-plus"]
BALANCE, *AFTER_BALANCE = PLUS.steps
WITH_MAC = replace(PLUS, steps=(BALANCE, Step("compensate"), *AFTER_BALANCE))


PARTS = {
    "none": without(RECIPES["carsam"], "compensate", JOINT),
    "MAC": without(RECIPES["carsam"], JOINT),
    "JCAR": without(RECIPES["carsam"], "compensate"),
    "MAC and JCAR (carsam)": RECIPES["carsam"],
    "carsam-plus": PLUS,
    "plus, inputs not centred": without(PLUS, "centre-inputs"),
    "plus, attention not balanced": without(PLUS, "balance-attention"),
    "plus, layers not centred": without(PLUS, "centre-layers"),
    "plus, no codebooks": without(PLUS, "codebooks"),
    "plus, uniform softmax": without(PLUS, "row-maximum-softmax").with_parameters(
        ["round-to-nearest.softmax=true"]
    ),
    "plus, rounded to nearest": without(PLUS, "feed-back-errors").with_parameters(
        ["round-to-nearest.rounds_weights=true"]
    ),
    "plus, with MAC": WITH_MAC,
    "plus, polished on the images' own prompts": PLUS.with_parameters(["polish.new=0"]),
    "plus, not polished": without(PLUS, "polish"),
}

JOBS = {
    f"{part}, {bits}, seed {seed}": Job(
        replace(recipe, bits=Bits.parse(bits)), seed, {"part": part, "bits": bits}
    )
    for bits in BITS
    for seed in SEEDS
    for part, recipe in PARTS.items()
}

if __name__ == "__main__":
    main(JOBS, RESULT, __doc__ or "")

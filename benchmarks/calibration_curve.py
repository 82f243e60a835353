"""AP against calibration seconds at W4A4: how much accuracy do fewer steps cost?

    python benchmarks/calibration_curve.py DATA [--threads 2]

Strict AP on val_dev, one seed, at several numbers of optimiser steps: of every unit, or of the
polish. Started again, it continues with the jobs that are left. The numbers go to
benchmarks/results/calibration_curve.json, the plot to docs/figures/calibration_curve.svg.
"""

import json
from pathlib import Path

from accuracy_jobs import Job, main

from carsam.comparison.plot import svg_pyplot
from carsam.methods.registry import make_recipe

RESULT = Path(__file__).parent / "results" / "calibration_curve.json"
PLOT = Path(__file__).parents[1] / "docs" / "figures" / "calibration_curve.svg"
STEPS = {
    "qdrop": ("reconstruct", (100, 300)),
    "ahcqsam": ("reconstruct", (100, 300)),
    "carsam": ("reconstruct", (100, 300)),
    "carsam-plus": ("polish", (800, 4000)),
}
"""Recipes: the step that trains, and its numbers of steps."""

JOBS = {
    f"{name}, {steps} steps": Job(
        make_recipe(name, "w4a4", settings=(f"{trained}.steps={steps}",)),
        0,
        {"name": name, "steps": steps},
    )
    for name, (trained, counts) in STEPS.items()
    for steps in counts
}


def plot() -> None:
    """Draw a line per recipe through its numbers of steps."""
    pyplot = svg_pyplot()
    jobs = json.loads(RESULT.read_text())["jobs"].values()
    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for name in STEPS:
        points = sorted(
            (job["seconds"] / 60, 100 * job["AP"], job["steps"])
            for job in jobs
            if job["name"] == name
        )
        minutes, aps, _ = zip(*points, strict=True)
        axes.plot(minutes, aps, "o-", label=name)
        for *point, steps in points:
            axes.annotate(str(steps), point, (4, 4), textcoords="offset points", fontsize=7)
    axes.set(xlim=0, xlabel="minutes of calibration", ylabel="AP (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main(JOBS, RESULT, __doc__ or "")
    plot()

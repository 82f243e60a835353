"""Seconds of calibration against agreement with float: what do more steps of training buy?

    python benchmarks/study.py DATA STUDY --study curve --seeds 1 --part reporting
    python benchmarks/calibration_curve.py STUDY/study.json

The first command quantizes the recipes of `study_rows.CURVE` with several numbers of steps, the
second draws docs/figures/calibration_curve.svg: a line per recipe, mask IoU with the float masks.
"""

import argparse
import json
from pathlib import Path

from matplotlib.ticker import LogLocator
from study_rows import CURVE, curve_row

from carsam.comparison.plot import svg_pyplot

PLOT = Path(__file__).parents[1] / "docs" / "figures" / "calibration_curve.svg"


def main() -> None:
    """Draw a line per recipe through its numbers of steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="study.json of the study")
    rows = {row["row"]: row for row in json.loads(parser.parse_args().study.read_bytes())["rows"]}
    pyplot = svg_pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for recipe, (_, counts) in CURVE.items():
        points = [(rows[curve_row(recipe, steps).name], steps) for steps in counts]
        at = [(row["seconds"] / 60, 100 * row["mask_iou"]) for row, _ in points]
        axes.plot(*zip(*at, strict=True), "o-", label=recipe)
        for place, (_, steps) in zip(at, points, strict=True):
            axes.annotate(str(steps), place, (4, 4), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", xlabel="minutes of calibration", ylabel="mask IoU with float (%)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main()

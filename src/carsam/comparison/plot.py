"""The plots of a comparison: AP of every recipe, and what its calibration cost."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from carsam.comparison.table import Row

OURS, PEERS, LEGACY = "tab:red", "tab:blue", "lightgrey"
LABEL_HEIGHTS = (4, -9)  # points above a marker


def save_plot(table: Sequence[Row], path: Path) -> None:
    """Write an SVG: bars of AP with the seeds' spread, float's AP as a line in every panel.

    CAR-SAM's recipes are red; rows with the published faults are grey.

    Args:
        table: rows of `carsam.comparison.table.rows`.
        path: where the SVG goes.
    """
    pyplot = svg_pyplot()
    whole = next((row.ap for row in table if row.recipe == "float"), None)
    quantized = [row for row in table if row.recipe != "float" and row.ap is not None]
    widths = list(dict.fromkeys(row.bits for row in quantized)) or [""]
    recipes = list(dict.fromkeys(row.recipe for row in quantized))
    figure, panels = pyplot.subplots(
        1,
        len(widths),
        figsize=(1.4 + 2.1 * len(widths), 1.0 + 0.23 * len(recipes)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, width in zip(panels[0], widths, strict=True):
        for row in (row for row in quantized if row.bits == width):
            place, ap = recipes.index(row.recipe), row.ap or 0.0
            error = {"linewidth": 1, "capsize": 2}
            colour = _colour(row)
            axes.barh(place, ap, 0.75, xerr=row.ap_spread, color=colour, alpha=0.6, error_kw=error)
            axes.text(0, place, f" {ap:.1f}", va="center", fontsize=7)
        if whole is not None:
            axes.axvline(whole, color="black", linestyle="--", linewidth=1)
        axes.set_title(width, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_yticks(range(len(recipes)), recipes, fontsize=8)
    panels[0][0].invert_yaxis()
    figure.supxlabel("AP (%); dashed: float", fontsize=8)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def save_cost_plot(table: Sequence[Row], path: Path) -> None:
    """Write an SVG: AP against the seconds of the calibration, one panel per bit width.

    Rows with the published faults are left out.

    Args:
        table: rows of `carsam.comparison.table.rows`.
        path: where the SVG goes.
    """
    pyplot = svg_pyplot()
    whole = next((row.ap for row in table if row.recipe == "float"), None)
    measured = [row for row in table if row.ap is not None and row.seconds is not None]
    costly = [row for row in measured if not row.legacy]
    widths = list(dict.fromkeys(row.bits for row in costly)) or [""]
    figure, panels = pyplot.subplots(
        1,
        len(widths),
        figsize=(2.4 + 3.6 * len(widths), 3.2),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, width in zip(panels[0], widths, strict=True):
        rows = [row for row in costly if row.bits == width]
        rows.sort(key=lambda row: row.seconds or 0.0)
        for row, height in zip(rows, cycle(LABEL_HEIGHTS)):  # neighbours rarely have equal heights
            point = row.seconds, row.ap
            axes.errorbar(*point, yerr=row.ap_spread, fmt="o", color=_colour(row), capsize=2)
            axes.annotate(row.recipe, point, (4, height), textcoords="offset points", fontsize=7)
        if whole is not None:
            axes.axhline(whole, color="black", linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_title(width, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("AP (%); dashed: float", fontsize=8)
    figure.supxlabel("seconds of calibration, logarithmic", fontsize=8)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def svg_pyplot() -> Any:
    """Return pyplot, set up so that the same table gives the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "carsam"
    from matplotlib import pyplot

    return pyplot


def _colour(row: Row) -> str:
    return LEGACY if row.legacy else OURS if row.recipe.startswith("carsam") else PEERS

"""The plots of a comparison: AP of every recipe, what its calibration cost, J&F over the frames."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from carsam.comparison.table import Row
from carsam.formats.bits import Bits

OURS, PEERS, LEGACY = "tab:red", "tab:blue", "lightgrey"
LABEL_HEIGHTS = (4, -9)  # points above a marker
FRAMES_OF_A_POINT = 5
DASHES = ("-", "--", ":", "-.")


def save_plot(table: Sequence[Row], path: Path) -> None:
    """Write an SVG: bars of AP with the seeds' spread, float's AP as a line in every panel.

    CAR-SAM's recipes are red; rows with the published faults are grey.

    Args:
        table: rows of `carsam.comparison.table.rows`.
        path: where the SVG goes.
    """
    whole = _float_ap(table)
    quantized = [row for row in table if row.recipe != "float" and row.ap is not None]
    widths = _widths(row.bits for row in quantized)
    recipes = list(dict.fromkeys(row.recipe for row in quantized))
    size = 1.4 + 2.1 * len(widths), 1.0 + 0.23 * len(recipes)
    with _panels(path, widths, size, "AP (%); dashed: float") as panels:
        for axes, width in zip(panels, widths, strict=True):
            for row in (row for row in quantized if row.bits == width):
                place, ap = recipes.index(row.recipe), row.ap or 0.0
                error = {"linewidth": 1, "capsize": 2}
                colour = _colour(row.recipe, row.legacy)
                axes.barh(
                    place, ap, 0.75, xerr=row.ap_spread, color=colour, alpha=0.6, error_kw=error
                )
                axes.text(0, place, f" {ap:.1f}", va="center", fontsize=7)
            if whole is not None:
                axes.axvline(whole, color="black", linestyle="--", linewidth=1)
        panels[0].set_yticks(range(len(recipes)), recipes, fontsize=8)
        panels[0].invert_yaxis()


def save_cost_plot(table: Sequence[Row], path: Path) -> None:
    """Write an SVG: AP against the seconds of the calibration, one panel per bit width.

    Rows with the published faults are left out.

    Args:
        table: rows of `carsam.comparison.table.rows`.
        path: where the SVG goes.
    """
    whole = _float_ap(table)
    measured = [row for row in table if row.ap is not None and row.seconds is not None]
    costly = [row for row in measured if not row.legacy]
    widths = _widths(row.bits for row in costly)
    size = 2.4 + 3.6 * len(widths), 3.2
    with _panels(path, widths, size, "seconds of calibration, logarithmic") as panels:
        for axes, width in zip(panels, widths, strict=True):
            rows = [row for row in costly if row.bits == width]
            rows.sort(key=lambda row: row.seconds or 0.0)
            for row, height in zip(rows, cycle(LABEL_HEIGHTS)):  # neighbours rarely are as high
                point, colour = (row.seconds, row.ap), _colour(row.recipe)
                axes.errorbar(*point, yerr=row.ap_spread, fmt="o", color=colour, capsize=2)
                axes.annotate(row.recipe, point, (4, height), textcoords="offset points", size=7)
            if whole is not None:
                axes.axhline(whole, color="black", linestyle="--", linewidth=1)
            axes.set_xscale("log")
            axes.margins(x=0.2)
        panels[0].set_ylabel("AP (%); dashed: float", fontsize=8)


def save_frame_plot(curves: Mapping[tuple[str, str], Sequence[float]], path: Path) -> None:
    """Write an SVG: J&F over the frames, a line per recipe, one panel per bit width.

    A point is the mean of `FRAMES_OF_A_POINT` frames. The float model is black in every panel.

    Args:
        curves: of `carsam.comparison.by_frame.by_frame`.
        path: where the SVG goes.
    """
    widths = _widths(bits for recipe, bits in curves if recipe != "float")
    size = 2.4 + 3.6 * len(widths), 3.2
    dashes = _dashes(recipe for recipe, _ in curves if recipe != "float")
    with _panels(path, widths, size, "judged frames after the prompt") as panels:
        for axes, width in zip(panels, widths, strict=True):
            for (recipe, bits), curve in curves.items():
                if recipe == "float":
                    axes.plot(*_smooth(curve), color="black", label=recipe)
                elif bits == width:
                    line, colour = dashes[recipe], _colour(recipe)
                    axes.plot(*_smooth(curve), line, color=colour, label=recipe)
            axes.legend(fontsize=7, frameon=False)
        panels[0].set_ylabel("J&F (%)", fontsize=8)


def _dashes(recipes: Iterable[str]) -> dict[str, str]:
    """Return the line of each recipe, the same in every panel: in turn within a colour."""
    unused: dict[str, Iterator[str]] = {}
    return {
        recipe: next(unused.setdefault(_colour(recipe), cycle(DASHES)))
        for recipe in dict.fromkeys(recipes)
    }


def svg_pyplot() -> Any:
    """Return pyplot, set up so that the same table gives the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "carsam"
    from matplotlib import pyplot

    return pyplot


@contextmanager
def _panels(
    path: Path, widths: Sequence[str], size: tuple[float, float], below: str
) -> Iterator[Any]:
    """Give one panel per bit width to draw in, then write the figure; `size` is in inches."""
    pyplot = svg_pyplot()
    figure, panels = pyplot.subplots(
        1,
        len(widths),
        figsize=size,
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    yield panels[0]
    for axes, width in zip(panels[0], widths, strict=True):
        axes.set_title(width, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(below, fontsize=8)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _widths(found: Iterator[str]) -> list[str]:
    """Return each of some bits once, from the most to the fewest."""
    widths = dict.fromkeys(found)
    return sorted(widths, key=lambda text: Bits.parse(text).size, reverse=True) or [""]


def _float_ap(table: Sequence[Row]) -> float | None:
    return next((row.ap for row in table if row.recipe == "float"), None)


def _colour(recipe: str, legacy: bool = False) -> str:
    return LEGACY if legacy else OURS if recipe.startswith("carsam") else PEERS


def _smooth(curve: Sequence[float]) -> tuple[range, list[float]]:
    """Numbers of the frames in the middle, and means."""
    count = max(1, len(curve) - FRAMES_OF_A_POINT + 1)
    parts = [curve[start : start + FRAMES_OF_A_POINT] for start in range(count)]
    first = 1 + len(parts[0]) // 2
    return range(first, first + count), [sum(part) / len(part) for part in parts]

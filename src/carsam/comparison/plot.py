"""The plot of a comparison: AP of every recipe over the bit widths."""

from collections.abc import Sequence
from pathlib import Path

from carsam.comparison.table import Row


def save_plot(table: Sequence[Row], path: Path) -> None:
    """Write an SVG with one group of bars per bit width, seeds' spread as error bars.

    Args:
        table: rows of `carsam.comparison.table.rows`.
        path: where the SVG goes.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "carsam"  # the same table gives the same file
    from matplotlib import pyplot

    floats = [row for row in table if row.recipe == "float" and row.ap is not None]
    quantized = [row for row in table if row.recipe != "float" and row.ap is not None]
    widths = list(dict.fromkeys(row.bits for row in quantized))
    recipes = list(dict.fromkeys(row.recipe for row in quantized))
    bar = 0.8 / max(1, len(recipes))
    figure, axes = pyplot.subplots(figsize=(2 + 0.35 * len(widths) * len(recipes), 3.6))
    colours = pyplot.get_cmap("tab20")
    for number, recipe in enumerate(recipes):
        chosen = [row for row in quantized if row.recipe == recipe]
        axes.bar(
            [widths.index(row.bits) + (number + 0.5) * bar - 0.4 for row in chosen],
            [row.ap or 0.0 for row in chosen],
            bar * 0.92,
            yerr=[row.ap_spread for row in chosen],
            color=colours(number),
            error_kw={"linewidth": 1, "capsize": 2},
            label=recipe,
        )
    for row in floats:
        axes.axhline(row.ap or 0.0, color="black", linestyle="--", linewidth=1, label="float")
    axes.set_xticks(range(len(widths)), widths)
    axes.set_ylabel("AP (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)

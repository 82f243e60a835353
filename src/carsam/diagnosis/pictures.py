"""Plots of a diagnosis: damage and loss along the depth, attention before and after."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from carsam.diagnosis.attention import attention_maps
from carsam.diagnosis.damage import Case, Diagnosis
from carsam.diagnosis.oscillation import LossCurve
from carsam.diagnosis.switches import SwitchedModel
from carsam.simulation.model import QuantizedModel


def save_damage(diagnosis: Diagnosis, path: Path) -> None:
    """Plot the logit error of every unit alone and of all units up to it, as an SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = [_short(harm.name) for harm in diagnosis.alone]
    figure, axes = pyplot.subplots(figsize=(3 + 0.28 * len(names), 4.2), layout="constrained")
    axes.bar(range(len(names)), [h.logit_error for h in diagnosis.alone], label="unit alone")
    together = [h.logit_error for h in diagnosis.cumulative]
    axes.plot(range(len(names)), together, "k.-", label="all units up to here")
    axes.set_yscale("log")
    axes.set_ylabel("relative error of the mask logits")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def save_losses(curves: Sequence[LossCurve], path: Path) -> None:
    """Plot the loss of every unit before and after training, and during it, as an SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    places = range(len(curves))
    size = (6 + 0.28 * len(curves), 4.2)
    figure, (depth, steps) = pyplot.subplots(1, 2, figsize=size, layout="constrained")
    depth.plot(places, [curve.before for curve in curves], "o:", label="rounded to nearest")
    depth.plot(places, [curve.after for curve in curves], "k.-", label="reconstructed")
    depth.set_xticks(places, [_short(curve.unit) for curve in curves], rotation=90, fontsize=7)
    depth.set_ylabel("loss of the unit")
    depth.legend(frameon=False)
    colours = pyplot.get_cmap("viridis")
    for place, curve in zip(places, curves, strict=True):
        start = curve.by_step[0] if curve.by_step else 0.0
        if start > 0:
            shares = [(i + 1) / len(curve.by_step) for i in range(len(curve.by_step))]
            colour = colours(place / max(1, len(curves) - 1))
            steps.plot(shares, [loss / start for loss in curve.by_step], color=colour)
    steps.set_xlabel("share of the steps (dark: first units)")
    steps.set_ylabel("training loss, relative to its start")
    depth.set_yscale("log")
    for axes in (depth, steps):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def save_attention(model: SwitchedModel, quantized: QuantizedModel, case: Case, path: Path) -> None:
    """Draw where the mask token of the first prompt looks, float above quantized, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    model.switch_(())
    rows = {
        "float": attention_maps(model.family, model.reference, case),
        "quantized": attention_maps(quantized.family, quantized.module, case),
    }
    framing = model.family.framing(model.reference.config)
    photo = case.pixels.transpose(1, 2, 0) * framing.deviation + framing.mean
    photo = photo.clip(0, 255).astype(np.uint8)
    columns = len(rows["float"])
    figure, axes = pyplot.subplots(2, columns + 1, figsize=(2.4 * (columns + 1), 5))
    for line, (label, maps) in zip(axes, rows.items(), strict=True):
        line[0].imshow(photo)
        _draw_box(line[0], case)
        line[0].set_ylabel(label)
        for place, (site, attention) in zip(line[1:], maps.items(), strict=True):
            look = Image.fromarray(attention[0, model.family.mask_token]).resize(photo.shape[1::-1])
            place.imshow(photo)
            place.imshow(np.asarray(look), cmap="inferno", alpha=0.75)
            place.set_title(_short(site), fontsize=7)
    for place in axes.flat:
        place.set_xticks([])
        place.set_yticks([])
    figure.savefig(path, bbox_inches="tight", dpi=100)
    pyplot.close(figure)


def _draw_box(axes: object, case: Case) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    assert isinstance(axes, Axes)
    assert case.prompts.boxes is not None
    left, top, right, bottom = (float(end) for end in case.prompts.boxes[0])
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="lime"))


def _short(name: str) -> str:
    """Return module paths without what all share; a joint unit names its block once."""
    for long, short in (
        ("vision_encoder.", "encoder."),
        ("mask_decoder.transformer.", "decoder."),
        ("layers.", ""),
        ("cross_attn_", ""),
    ):
        name = name.replace(long, short)
    first, *others = name.split(" + ")
    return "\n+ ".join([first, *(other.rpartition(".")[2] for other in others)])

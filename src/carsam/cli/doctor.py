"""`carsam doctor`: which part of a quantized model does the damage."""

import math
from pathlib import Path
from typing import Literal

from rich.table import Table

from carsam.cli.options import Common
from carsam.cli.terminal import Terminal
from carsam.extras import require
from carsam.formats.files import write_whole

RULES = "rules.txt"


def doctor(
    run: Path,
    /,
    *,
    images: Path,
    out: Path,
    coco: Path | None = None,
    source: str | None = None,
    count: int = 4,
    mixed: float | None = None,
    budget: Literal["size", "operations"] = "size",
    common: Common | None = None,
) -> None:
    """Rank the units of a quantized model by the damage they do (needs the extra `quantize`).

    Every unit is quantized alone, then all units up to it, then one kind of operand everywhere;
    the masks are compared with the float model's.

    Args:
        run: folder of the quantized model.
        images: folder of photos to look at.
        out: folder that gets doctor.json, damage.svg, attention.png, and losses.svg after training.
        coco: COCO instances json of the photos, whose boxes are then the prompts.
        source: the float model; the one that RUN was made from unless given.
        count: photos to use.
        mixed: mean bits to share out among the units by the damage they do, from 2 to 8; OUT then
            gets rules.txt, which `carsam quantize --mixed` takes. RUN should be of recipe rtn.
        budget: what the mean counts: size, bits per weight; or operations, multiplications times
            the bits of both factors.
    """
    options = common or Common()
    options.prepare()
    require("quantize")
    from carsam.diagnosis.mixed import choose_bits, rules
    from carsam.diagnosis.report import OTHER_FOLDER, examine
    from carsam.engines.load import resolve_device

    if mixed is not None:
        choose_bits((), mixed, budget)  # refuses what is not understood before the work
    with options.progress() as progress:
        report = examine(
            run,
            images,
            out,
            coco=coco,
            source=source,
            count=count,
            seed=options.seed,
            device=resolve_device(options.device),
            progress=progress,
        )
    found = report.diagnosis
    lines: tuple[str, ...] = ()
    if mixed is not None:
        lines = rules(report.costs, choose_bits(report.costs, mixed, budget))
        write_whole(out / RULES, ("\n".join(lines) + "\n").encode(), OTHER_FOLDER)
    table = Table("Unit", "Alone: lost IoU %", "logit error", "Up to here: lost IoU %")
    for alone, until in zip(found.alone, found.cumulative, strict=True):
        cells = (f"{alone.lost_iou:.2f}", f"{alone.logit_error:.4f}", f"{until.lost_iou:.2f}")
        table.add_row(alone.name, *cells)
    Terminal().print(table)
    if found.weights_stay:
        print(
            "The recipe changed more than weights: they stay those of RUN, and their damage is in "
            "every row. Only activations are quantized part by part."
        )
    for harm in sorted(found.operands, key=lambda harm: harm.logit_error, reverse=True):
        print(f"{harm.name:<14} alone loses {harm.lost_iou:6.2f} % IoU")
    for before, after in zip(report.float_focus, report.quantized_focus, strict=True):
        print(
            f"{before.path}: entropy {before.entropy:.2f} -> {after.entropy:.2f}, "
            f"inside the mask {before.inside:.2f} -> {after.inside:.2f}"
        )
    if report.losses:
        unsteady = max(report.losses, key=lambda curve: curve.rises)
        put_back = sum(not curve.kept for curve in report.losses)
        print(
            f"Loss from unit to unit changes by a factor of {math.exp(report.swing):.1f}; while "
            f"training it is least steady in {unsteady.unit} ({100 * unsteady.rises:.0f} % of its "
            f"changes are rises); {put_back} of {len(report.losses)} trainings were undone."
        )
    print(found.advice())
    if lines:
        print(f"{out / RULES}:")
        print("\n".join(lines))

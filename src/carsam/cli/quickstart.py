"""`carsam quickstart`: every step once, on the bundled model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from carsam.cli.options import Common
from carsam.cli.terminal import Terminal, program
from carsam.extras import require


def quickstart(
    *,
    out: Path = Path("quickstart"),
    images: Path | None = None,
    coco: Path | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Draw masks of the bundled models, quantize one anew, measure all (about three minutes).

    Draws the photos of the extra `photos` where it is installed, procedural scenes otherwise, and
    measures on procedural scenes. Needs the extra `quantize`.

    Args:
        out: folder that gets the quantized model, the numbers and a picture.
        images: folder of photos of your own for all of this, given with their annotations.
        coco: COCO instances json of the photos.
        force: replace the folder of an earlier quickstart.
    """
    options = common or Common()
    options.prepare()
    require("quantize", "torch", "transformers", "faster_coco_eval")
    from carsam.quickstart import run, summary

    with options.progress() as progress:
        found = run.quickstart(out, progress, images, coco, options.seed, options.device, force)
    table = Table(*summary.columns(found), title=summary.title(found))
    for row in summary.rows(found):
        table.add_row(*row)
    Terminal().print(table)
    for label, meaning in summary.MEANINGS:
        print(f"{label:<15} {meaning}")
    print(f"\nPicture:  {out / run.PICTURE}")
    print(f"Numbers:  {out / run.SUMMARY_TEXT}")
    print("Next:")
    for command in run.next_commands(out, program()):
        print(f"  {command}")

"""`carsam quickstart`: the whole way once, on the bundled model."""

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
    """Quantize the bundled sam-mini to 4 bits, measure it, draw its masks (about two minutes).

    Without photos it uses procedural scenes. Needs the extra `quantize`.

    Args:
        out: folder that gets the quantized model, the numbers and a picture.
        images: folder of photos, given with their annotations.
        coco: COCO instances json of the photos.
        force: replace the folder of an earlier quickstart.
    """
    options = common or Common()
    options.prepare()
    require("quantize", "torch", "transformers", "faster_coco_eval")
    from carsam.quickstart import run as work

    with options.progress() as progress:
        summary = work.quickstart(out, progress, images, coco, options.seed, options.device, force)
    table = Table(*work.COLUMNS, title=work.title(summary))
    for row in work.rows(summary):
        table.add_row(*row)
    Terminal().print(table)
    print(f"Picture:  {out / work.PICTURE}")
    print(f"Numbers:  {out / work.SUMMARY_TEXT}, {out / work.RESULT}")
    print("Next:")
    for command in work.next_commands(out, program()):
        print(f"  {command}")

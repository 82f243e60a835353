"""`carsam report`: one page on a quantized model, to read and to pass on."""

import shlex
import sys
from pathlib import Path

from carsam.cli.options import Common
from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.files import check_writable, write_whole

OTHER_FILE = "Give another file, or make room."


def report(
    run: Path,
    /,
    *,
    out: Path,
    evaluation: Path | None = None,
    doctor: Path | None = None,
    images: Path | None = None,
    coco: Path | None = None,
    source: str | None = None,
    count: int = 8,
    common: Common | None = None,
) -> None:
    """Write one HTML page on a quantized model (needs the extra `quantize`).

    It says what is saved and what is lost, shows both models' masks side by side, the worst first,
    and what does the damage. It needs nothing beside it and can be mailed.

    Args:
        run: folder of the quantized model, or sam-mini-w4a4 (bundled).
        out: the page; one that is there is replaced.
        evaluation: result of `carsam evaluate RUN --coco ... --json FILE`, for accuracy.
        doctor: folder that `carsam doctor RUN` wrote, for the damage of every unit.
        images: folder of photos to run the float and the quantized model on.
        coco: COCO instances json of the photos, whose boxes are then the prompts.
        source: the float model; the one that RUN was made from unless given.
        count: photos to use.
    """
    options = common or Common()
    options.prepare()
    require("quantize", "torch", "transformers")
    from carsam.report.findings import gather
    from carsam.report.inputs import read_diagnosis, read_evaluation
    from carsam.report.page import render

    if count < 1:
        raise UserError(f"Found --count {count}; expected at least 1.")
    check_writable(out, OTHER_FILE)
    measured = None if evaluation is None else read_evaluation(evaluation)
    diagnosis = None if doctor is None else read_diagnosis(doctor)
    with options.progress() as progress:
        found = gather(
            run,
            evaluation=measured,
            diagnosis=diagnosis,
            images=images,
            coco=coco,
            source=source,
            count=count,
            seed=options.seed,
            command=shlex.join(["carsam", *sys.argv[1:]]),
            progress=progress,
        )
    write_whole(out, render(found), OTHER_FILE)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")

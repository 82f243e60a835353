"""`carsam quantize`: a folder of photos in, a packed low-bit model out."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carsam.calibration.record import Calibration
from carsam.cli.options import Common, parse_gigabytes
from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.checkpoint import check_output_folder, read_checkpoint
from carsam.formats.folders import sole_writer
from carsam.formats.inventory import bytes_on_disk, float32_bytes
from carsam.methods.recipe import DEFAULT_RECIPE

Repeated = Annotated[list[str] | None, Parameter(negative="")]


def quantize(
    model: str,
    /,
    *,
    out: Path,
    images: Path | None = None,
    videos: Path | None = None,
    recipe: str = DEFAULT_RECIPE,
    bits: str = "w4a4",
    rule: Repeated = None,
    mixed: Path | None = None,
    setting: Annotated[Repeated, Parameter(name="--set")] = None,
    budget: str = "fast",
    image_size: int | None = None,
    coco: Path | None = None,
    count: int = 32,
    exact: Annotated[bool, Parameter(negative="")] = False,
    memory: str | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> None:
    """Quantize a model, calibrated on photos without labels (needs the extra `quantize`).

    Says first how long it is going to take, and how much memory. A run that was stopped goes on
    where it was when the same command is given again.

    Args:
        model: sam-mini, a Hugging Face id or folder, or a file of weights.
        out: folder that gets the quantized model.
        images: folder of photos to calibrate on.
        videos: folder of videos, as folders of frames, to calibrate the memory of SAM 2 on, and
            the rest too unless there are --images; without it a moving camera makes clips of them.
        recipe: name of the method.
        bits: of weights and activations, as in w4a4; 32 means float.
        rule: PATTERN=BITS, an exception for module paths or kinds, as in encoder.mlp=w8a8; repeat
            for more, later ones win.
        mixed: file of rules, one a line, such as `carsam doctor --mixed` writes; those of --rule
            come after them.
        setting: step.parameter=value, a change to a step of the recipe; repeat for more.
        budget: fast or paper, the steps of recipes that train.
        image_size: side of the model's inputs, in pixels, a multiple of 16 (SAM 2: 32, SAM 3: 14);
            its own unless given.
        coco: COCO instances json of the photos, whose boxes then prompt the decoder; otherwise
            the float model finds boxes itself.
        count: photos to use.
        exact: refuse to use fewer.
        memory: activations to keep in memory, as in 4GB or 500MB; the rest goes to the temporary
            disk. 750MB unless that disk lacks room.
        force: replace a quantized model in OUT.
    """
    options = common or Common()
    options.prepare()
    require("quantize", "torch", "transformers")
    from carsam.calibration.mask_scores import with_thresholds
    from carsam.calibration.quantize import calibrate
    from carsam.calibration.unit_log import remove_logs
    from carsam.methods.registry import make_recipe

    rules = (*_lines(mixed), *(rule or ()))
    method = make_recipe(recipe, bits, rules, tuple(setting or ()), budget)
    calibration = Calibration(
        images,
        coco,
        count=count,
        exact=exact,
        seed=options.seed,
        device=options.device,
        memory=None if memory is None else parse_gigabytes(memory),
        videos=videos,
    )
    with sole_writer(out) as run, options.progress() as progress:
        check_output_folder(out, force)
        quantized = calibrate(
            model,
            method,
            calibration,
            run,
            projects=True,
            progress=progress,
            image_size=image_size,
        )
        quantized = with_thresholds(quantized, model, calibration, progress)
        quantized.save(run, force)
        remove_logs(run)
    size, original = bytes_on_disk(out), float32_bytes(read_checkpoint(out))
    print(f"{out}: {size / 1e6:.2f} MB, {original / size:.1f} times smaller than float32")


def _lines(path: Path | None) -> list[str]:
    """Return the lines of a file that are not empty; none without a file."""
    if path is None:
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "they are not UTF-8 text")
        raise UserError(f"The rules in {path} cannot be read: {reason}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]

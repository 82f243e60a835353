"""`carsam compare`: every method on the same model, images and strict evaluation."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from carsam.cli.options import Common
from carsam.errors import UserError
from carsam.extras import require
from carsam.formats.files import check_writable, write_if_possible, write_whole
from carsam.formats.model_paths import find_float_model
from carsam.threads import current_threads
from carsam.video.predictor import video_engine

OTHER_FOLDER = "Give another folder for the table, or make room."


def compare(
    model: str,
    /,
    *,
    images: Path,
    coco: Path,
    out: Path,
    recipes: str = "all",
    bits: str = "w8a8,w6a6,w4a4",
    seeds: int = 3,
    calibration: Path | None = None,
    calibration_coco: Path | None = None,
    count: int = 32,
    setting: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    engine: Literal["simulated", "native"] = "simulated",
    limit: int | None = None,
    image_size: int | None = None,
    davis: Path | None = None,
    jobs: int = 1,
    common: Common | None = None,
) -> None:
    """Make the table of methods: AP, mean IoU, J&F of videos, cost (needs `quantize`).

    Every cell runs in its own process and is kept in OUT; run it again to continue after a stop.

    Args:
        model: sam-mini, a Hugging Face id or folder, or a file of weights.
        images: folder of the images to evaluate on.
        coco: COCO instances json of those images.
        out: folder that gets table.json, table.md, the plots and the cells.
        recipes: names separated by commas, or all.
        bits: widths separated by commas.
        seeds: how often each method is repeated, with seeds 0, 1, ...
        calibration: folder of the calibration images; of IMAGES unless given. Images that are
            evaluated on never calibrate.
        calibration_coco: their COCO json, whose boxes then prompt the decoder.
        count: calibration images.
        setting: step.parameter=value, a change to a step of every recipe that has it; one that fits
            no recipe is refused. Repeat for more.
        engine: what evaluates; native takes less time.
        limit: evaluate on so many images only.
        image_size: side of the model's inputs, in pixels; its own unless given.
        davis: videos with masks in the layout of DAVIS or SA-V, to follow objects through as well,
            from their first true masks and by the protocol of 2016.
        jobs: cells that run at the same time; each computes with its share of the threads.
    """
    options = common or Common()
    options.prepare()
    require("quantize")
    from carsam.comparison.by_frame import by_frame
    from carsam.comparison.plot import save_cost_plot, save_frame_plot, save_plot
    from carsam.comparison.run import Plan, run_plan, settings_by_recipe
    from carsam.comparison.table import caption, document, markdown, rows
    from carsam.engines.load import load, resolve_device
    from carsam.evaluation.davis.sequences import read_sequences
    from carsam.methods.registry import make_recipe, recipe_names

    check_writable(out / "cells" / "cell.json", OTHER_FOLDER)
    find_float_model(model)  # not in every cell anew
    names = recipe_names(recipes)
    widths = tuple(bits.split(","))
    for width in widths:
        make_recipe(names[0], width)  # refuses what is not understood before hours of work
    settings_by_recipe(names, setting or ())  # so does this
    if davis is not None:  # a model without a memory and a folder without videos are refused
        read_sequences(davis, "2016")
        video_engine(load(model, "float", options.device, image_size=image_size))
    for name, number in (("seeds", seeds), ("jobs", jobs)):
        if number < 1:
            raise UserError(f"Found --{name} {number}; expected at least 1.")
    if jobs > current_threads():
        raise UserError(
            f"Found --jobs {jobs} for --threads {current_threads()}; expected at most as many jobs "
            "as threads."
        )
    plan = Plan(
        model,
        names,
        widths,
        seeds,
        coco,
        images,
        calibration or images,
        calibration_coco,
        count,
        tuple(setting or ()),
        resolve_device(options.device),
        current_threads() // jobs,
        engine,
        limit,
        image_size,
        davis,
    )
    with options.progress() as progress:
        results = run_plan(plan, out / "cells", progress, jobs)
        table = rows(results)
        numbers = json.dumps(document(plan, results), indent=1) + "\n"
        write_whole(out / "table.json", numbers, OTHER_FOLDER)
        text = f"{caption(plan, results)}\n{markdown(table)}"
        write_whole(out / "table.md", text, OTHER_FOLDER)
        plots = {"table.svg": partial(save_plot, table), "cost.svg": partial(save_cost_plot, table)}
        if curves := by_frame(results):
            plots["by_frame.svg"] = partial(save_frame_plot, curves)
        for name, save in plots.items():
            write_if_possible(out / name, save, progress.warn)
    print(text, end="")
    print(f"Table: {out / 'table.md'}, plots: {', '.join(str(out / name) for name in plots)}")

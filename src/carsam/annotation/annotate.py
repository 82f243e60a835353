"""Annotate many images: the package's front door."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from carsam.annotation.job import Job
from carsam.annotation.outputs import find_output
from carsam.annotation.plan import begin
from carsam.annotation.prompting import Asked, find_prompting
from carsam.annotation.sources import find_source
from carsam.annotation.storage import storage
from carsam.annotation.workers import find_workers
from carsam.annotation.workers.dispatch import annotate_shards
from carsam.errors import UserError, few
from carsam.progress import Progress, Silent
from carsam.threads import default_threads


@dataclass(frozen=True)
class Summary:
    """What one call did; `there` counts shards that were there already."""

    shards: int
    there: int
    images: int
    masks: int
    errors: int


def annotate(
    model: str,
    source: str,
    out: str,
    *,
    prompts: str = "boxes",
    boxes: str | Path | None = None,
    points: int | None = None,
    images: str | None = None,
    output: str = "coco",
    shard: tuple[int, int] = (1, 1),
    shard_size: int = 32,
    jobs: int | None = None,
    workers: str = "processes",
    threads: int = 1,
    engine: str = "auto",
    device: str = "auto",
    progress: Progress | None = None,
) -> Summary:
    """Annotate images and write what is found to one file per shard, whole or not at all.

    Shards that are there already are left as they are, so that the same call goes on where another
    was stopped. An image that fails becomes an error in its shard's file.

    Args:
        model: what `carsam.load` takes.
        source: what `sources.find_source` takes.
        out: folder or url of the shards.
        prompts: `boxes`, or `everything`; see `prompting.PROMPTINGS`.
        boxes: a COCO json, or a list of detections; a source that is a COCO json is its own.
        points: for prompts `everything`, along a side of each image; 32 unless given.
        images: folder of the images of a source that is a COCO json.
        output: form of the results; see `outputs.OUTPUTS`.
        shard: i and n: only every n-th shard, beginning with the i-th, so that n machines share
            the work.
        shard_size: images in a shard; a tar file is one shard.
        jobs: workers at the same time; as many as there are processors for unless given.
        workers: kind of workers; see `workers.WORKERS`.
        threads: of each worker.
        engine: the arithmetic, as `carsam.load` takes it.
        device: where torch computes, for its engines.
        progress: hears of every image; silent by default.

    Raises:
        UserError: wrong arguments, nothing to annotate, or a shard whose workers died.
    """
    progress = progress or Silent()
    jobs = max(1, default_threads() // threads) if jobs is None else jobs
    for name, value in (("jobs", jobs), ("shard_size", shard_size), ("threads", threads)):
        if value < 1:
            raise UserError(f"{name} is {value}, expected 1 or more.")
    if not 1 <= shard[0] <= shard[1]:
        raise UserError(f"Shard {shard[0]}/{shard[1]} is none; expected 1/n to n/n.")
    find_output(output)
    start = find_workers(workers)
    folder = storage(out)
    folder.check()
    found = find_source(source, images)
    asked = Asked(source, None if boxes is None else Path(boxes), points)
    prompting = find_prompting(prompts, asked, progress)
    parts = found.parts(shard_size, lambda item: prompting.request(item) is not None, progress)
    if not parts:
        raise UserError(
            f"{boxes or source} has boxes on none of the images of {source}. Give boxes of these "
            "images: ids, or file names, must be the same."
        )
    job = Job(
        model=model,
        engine=engine,
        device=device,
        threads=threads,
        pixels=Image.MAX_IMAGE_PIXELS,
        prompting=prompting,
        output=output,
        out=folder,
        info=_info(model, source),
    )
    left = begin(job, parts)
    first, step = shard
    own = range(first - 1, len(parts), step)
    ours = [each for each in left if each.number in own]
    counts = [each.part.images for each in ours]
    in_images = None not in counts
    if not ours:
        return Summary(0, len(own), 0, 0, 0)
    progress.start("Annotating", sum(n or 0 for n in counts) if in_images else len(ours))
    outcome = annotate_shards(start(job, jobs), ours, jobs, progress, in_images)
    progress.finish()
    done, lost = outcome.done, outcome.given_up
    if lost:
        places = few(f"{each.shard.number} (at {each.image or 'its beginning'})" for each in lost)
        raise UserError(
            f"Workers died at {len(lost)} shards, {places}: {lost[-1].reason}. All others are in "
            f"{out}; run the same command again for these."
        )
    return Summary(
        shards=len(done),
        there=len(own) - len(ours),
        images=sum(each.images for each in done),
        masks=sum(each.masks for each in done),
        errors=sum(each.errors for each in done),
    )


def parse_shard(text: str) -> tuple[int, int]:
    """Read `3/20`: the third of twenty machines."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f'Shard "{text}" is not understood; write 1/20 to 20/20 for 20 machines.')
    return int(match[1]), int(match[2])


def _info(model: str, source: str) -> dict[str, str]:
    version = importlib.metadata.version("carsam")
    return {"description": "masks by carsam", "version": version, "model": model, "source": source}

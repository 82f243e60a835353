"""`carsam annotate`: masks of many images, in files of shards."""

from pathlib import Path

from carsam.annotation.annotate import annotate as annotate_images
from carsam.annotation.annotate import parse_shard
from carsam.cli.options import Common, EngineName


def annotate(
    model: str,
    source: str,
    /,
    *,
    out: str,
    prompts: str = "boxes",
    boxes: Path | None = None,
    points: int | None = None,
    images: str | None = None,
    format: str = "coco",
    shard: str = "1/1",
    shard_size: int = 32,
    jobs: int | None = None,
    workers: str = "processes",
    engine: EngineName = "auto",
    common: Common | None = None,
) -> None:
    """Annotate many images: a mask for every box, or for everything, in files of a few images each.

    A file that is there already is not made again, so that the same command goes on where it was
    stopped, and several machines can share the work.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        source: folder of images, COCO json, parquet files or tar files of WebDataset; also a url
            of fsspec, such as s3://bucket/folder.
        out: folder of the results, or a url.
        prompts: boxes, or everything, which needs none.
        boxes: COCO json, or a detector's list of image_id, bbox, category_id and score; a COCO json
            as the source has its own.
        points: for `--prompts everything`, points along a side of each image; 32 unless given.
        images: folder of the images of a COCO json; that of the json unless given.
        format: coco (run lengths), coco-polygons, label-studio or parquet.
        shard: i/n lets this machine make every n-th file, beginning with the i-th.
        shard_size: images whose results are in one file; a tar file is always one.
        jobs: workers at the same time, each with --threads threads (1 unless given) and a model of
            its own; as many as there are processors for unless given.
        workers: processes, or ray (needs the extra `ray`), on this machine or those of the cluster
            that $RAY_ADDRESS names.
        engine: the arithmetic to run the model with.
    """
    options = common or Common()
    options.prepare()
    place = parse_shard(shard)
    with options.progress() as progress:
        summary = annotate_images(
            model,
            source,
            out,
            prompts=prompts,
            boxes=boxes,
            points=points,
            images=images,
            output=format,
            shard=place,
            shard_size=shard_size,
            jobs=jobs,
            workers=workers,
            threads=options.threads or 1,
            engine=engine,
            device=options.device,
            progress=progress,
        )
    there = f" ({summary.there} more were there already)" if summary.there else ""
    print(
        f"{out}: {summary.shards} files{there}, {summary.images} images, {summary.masks} masks, "
        f"{summary.errors} errors"
    )

"""`carsam masks`: everything mode, for one image or a folder of them."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from carsam.cli.options import Common, EngineName, embedding_cache
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.read import check_image, list_images
from carsam.images.remarks import Remarks, deep_images, skipped_images
from carsam.predict.everything.generator import SamAutomaticMaskGenerator
from carsam.predict.everything.mask_folder import MaskFolder


def masks(
    model: str,
    source: Path,
    /,
    *,
    out: Path,
    points: int = 32,
    iou: float | None = None,
    stability: float | None = None,
    crop_layers: int = 0,
    min_area: int = 0,
    png: Annotated[bool, Parameter(negative="")] = False,
    engine: EngineName = "auto",
    image_size: int | None = None,
    cache: Path | None = None,
    common: Common | None = None,
) -> None:
    """Find the masks of everything in a photo, or in all photos of a folder.

    For each photo a json is written as in the SA-1B data set, with the masks as COCO run lengths.
    Photos whose json is there already are passed over, so that the same command goes on where it
    was stopped.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        source: an image file, or a folder, searched with its subfolders.
        out: folder that the files go to, named after the photos.
        points: points along a side of the photo; the model is asked at each.
        iou: predicted IoU that a mask must exceed; unless given, what was recorded when the model
            was quantized, otherwise 0.88.
        stability: stability score that it must reach; likewise, otherwise 0.95.
        crop_layers: layers of crops that are asked too, which finds smaller things.
        min_area: holes and islands of fewer pixels go.
        png: write each mask as a picture too, of 0 and 255.
        engine: the arithmetic to run the model with.
        image_size: side of a float model's inputs, in pixels; its own unless given.
        cache: folder of embeddings to use and extend; $CARSAM_CACHE unless given.
    """
    options = common or Common()
    options.prepare()
    MaskFolder.check(out)
    with options.progress() as progress:
        paths, root = [source], source.parent
        if source.is_dir():
            paths, root = list_images(source, warn=progress.warn, info=progress.info), source
        else:
            check_image(source)
        loaded = load(model, engine, options.device, progress.warn, image_size=image_size)
        generator = SamAutomaticMaskGenerator(
            loaded,
            points,
            pred_iou_thresh=iou,
            stability_score_thresh=stability,
            crop_n_layers=crop_layers,
            min_mask_region_area=min_area,
            cache=embedding_cache(cache, progress),
        )
        settings = {
            "model": getattr(loaded, "fingerprint", None),
            "points": points,
            "iou": generator.pred_iou_thresh,
            "stability": generator.stability_score_thresh,
            "crop_layers": crop_layers,
            "min_area": min_area,
        }
        folder = MaskFolder(out, settings, png)
        unreadable, deep = skipped_images(progress.warn), deep_images(progress.warn)
        empty = Remarks(progress.warn, "images have no mask")
        count = done = there = 0
        progress.start("Masks", len(paths))
        for path in paths:
            name = path.relative_to(root).as_posix()
            if folder.has(name):
                there += 1
            else:
                said: list[str] = []
                try:
                    found, size = generator.find(path, warn=said.append)
                except UserError as error:
                    unreadable.add(f"Skipped an image. {error}")
                else:
                    folder.write(name, size, found)
                    done, count = done + 1, count + len(found)
                    for sentence in said:
                        (deep if found else empty).add(f"{path}: {sentence}")
            progress.advance(note=path.name)
        for remarks in (unreadable, deep, empty):
            remarks.finish()
    if not done + there:
        raise UserError(f"None of the {len(paths)} images in {source} could be read.")
    skipped = f", {unreadable.count} images skipped" if unreadable.count else ""
    known = f", {there} images done before" if there else ""
    print(f"{out}: {count} masks in {done} images{known}{skipped}")

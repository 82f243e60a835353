"""`carsam predict`: one mask of one photo."""

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter
from PIL import Image

from carsam.cli.options import Common, EngineName, embedding_cache, parse_box, parse_point
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.drawing import (
    check_mask_path,
    check_picture_path,
    draw_prompt,
    overlay_mask,
    save_mask,
    save_picture,
)
from carsam.images.read import check_image, read_image
from carsam.predict.predictor import SamPredictor


def predict(
    model: str,
    photo: Path,
    /,
    *,
    out: Path,
    box: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    point: Annotated[list[str] | None, Parameter(negative="", allow_leading_hyphen=True)] = None,
    overlay: Path | None = None,
    engine: EngineName = "auto",
    image_size: int | None = None,
    cache: Path | None = None,
    common: Common | None = None,
) -> None:
    """Predict the mask of a box or of points in a photo.

    A single point is ambiguous: of its three candidate masks the one with the highest predicted
    IoU is taken.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        photo: the image file.
        out: where the mask goes, a lossless picture of 0 and 255 as large as the photo.
        box: x0,y0,x1,y1 in pixels of the photo.
        point: x,y on the object, or x,y,0 outside it; repeat for more points.
        overlay: where a picture of photo, prompt and mask goes.
        engine: the arithmetic to run the model with.
        image_size: side of a float model's inputs, in pixels; its own unless given.
        cache: folder of embeddings to use and extend; $CARSAM_CACHE unless given.
    """
    options = common or Common()
    options.prepare()
    corners = parse_box(box) if box is not None else None
    points = [parse_point(text) for text in point or []]
    if corners is None and not points:
        raise UserError("Found no prompt; give --box x0,y0,x1,y1 or --point x,y.")
    check_mask_path(out)
    if overlay is not None:
        check_picture_path(overlay)
    _check_different(photo, out, overlay)
    check_image(photo)
    with options.progress() as progress:
        embeddings = embedding_cache(cache, progress)
        loaded = load(model, engine, options.device, progress.warn, image_size=image_size)
        predictor = SamPredictor(loaded, embeddings)
        predictor.set_image(photo, warn=progress.warn)
    masks, ious, _ = predictor.predict(
        point_coords=np.array([place[:2] for place in points]) if points else None,
        point_labels=np.array([place[2] for place in points]) if points else None,
        box=None if corners is None else np.array(corners),
        multimask_output=corners is None and len(points) == 1,
    )
    best = int(ious.argmax())
    mask = masks[best]
    save_mask(mask, out)
    print(f"{out}: {mask.mean():.1%} of the photo, predicted IoU {ious[best]:.3f}")
    if overlay is not None:
        image = read_image(photo, warn=lambda _: None)  # what there is to say has been said
        drawn = draw_prompt(overlay_mask(image, mask), corners, points)
        save_picture(Image.fromarray(drawn), overlay)


def _check_different(photo: Path, out: Path, overlay: Path | None) -> None:
    """Refuse an output that would overwrite the photo or the other output."""
    for path in (out, overlay):
        if path is not None and path.exists() and photo.exists() and path.samefile(photo):
            raise UserError(f"{path} is the photo itself; choose another name for the output.")
    if overlay is not None and overlay.resolve() == out.resolve():
        raise UserError(f"--out and --overlay are both {out}; give them different names.")

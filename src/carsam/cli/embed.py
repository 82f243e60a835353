"""`carsam embed`: the embeddings of a folder's images, kept for later."""

from pathlib import Path

import numpy as np

from carsam.cli.options import Common, EngineName, embedding_cache
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.preprocess import preprocess
from carsam.images.read import list_images, read_image
from carsam.progress import Progress


def embed(
    model: str,
    images: Path,
    /,
    *,
    cache: Path | None = None,
    engine: EngineName = "auto",
    common: Common | None = None,
) -> None:
    """Encode all images of a folder and keep the embeddings, so that masks need the decoder only.

    An image whose embedding is there already is not encoded again. Commands with `--cache` read
    and extend the same folder; to empty it, delete it.

    Args:
        model: folder of a quantized model, or a float model.
        images: folder of images, searched with its subfolders.
        cache: folder of the embeddings; $CARSAM_CACHE unless given.
        engine: the arithmetic to run the model with.
    """
    options = common or Common()
    options.prepare()
    with options.progress() as progress:
        embeddings = embedding_cache(cache, progress)
        if embeddings is None:
            raise UserError("No place for the embeddings; give --cache DIR, or set CARSAM_CACHE.")
        paths = list_images(images)
        loaded = load(model, engine, options.device, progress.warn)
        progress.start("Encoding", len(paths))
        for path in paths:
            image = _read(path, progress)
            if image is not None:
                embeddings.encode(loaded, preprocess(image, loaded.image_size)[0])
            progress.advance(note=path.name)
    computed, found = embeddings.computed, embeddings.found
    if not computed + found:
        raise UserError(f"None of the {len(paths)} images in {images} could be read.")
    print(f"{embeddings.folder}: {computed} embeddings computed, {found} already there")


def _read(path: Path, progress: Progress) -> np.ndarray | None:
    try:
        return read_image(path)
    except UserError as error:
        progress.warn(f"Skipped an image. {error}")
        return None

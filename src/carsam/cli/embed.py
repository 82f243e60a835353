"""`carsam embed`: the embeddings of a folder's images, kept for later."""

from pathlib import Path

from carsam.cli.options import Common, EngineName, embedding_cache
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.preprocess import normalise_and_pad
from carsam.images.read import list_images, read_resized
from carsam.images.remarks import deep_images, skipped_images


def embed(
    model: str,
    images: Path,
    /,
    *,
    cache: Path | None = None,
    engine: EngineName = "auto",
    image_size: int | None = None,
    common: Common | None = None,
) -> None:
    """Encode all images of a folder and keep the embeddings, so that masks need only the decoder.

    An image whose embedding is there already is not encoded again. Commands with `--cache` read
    and extend the same folder; to empty it, delete it.

    Args:
        model: folder of a quantized model, sam-mini-w4a4 (bundled), or a float model.
        images: folder of images, searched with its subfolders.
        cache: folder of the embeddings; $CARSAM_CACHE unless given.
        engine: the arithmetic to run the model with.
        image_size: side of a float model's inputs, in pixels; its own unless given.
    """
    options = common or Common()
    options.prepare()
    with options.progress() as progress:
        embeddings = embedding_cache(cache, progress)
        if embeddings is None:
            raise UserError("No place for the embeddings; give --cache DIR, or set CARSAM_CACHE.")
        embeddings.check()
        paths = list_images(images, warn=progress.warn, info=progress.info)
        loaded = load(model, engine, options.device, progress.warn, image_size=image_size)
        unreadable, deep = skipped_images(progress.warn), deep_images(progress.warn)
        framing = loaded.framing
        progress.start("Encoding", len(paths))
        for path in paths:
            try:
                image, _ = read_resized(path, framing, warn=deep.add)
            except UserError as error:
                unreadable.add(f"Skipped an image. {error}")
            else:
                embeddings.encode(loaded, normalise_and_pad(image, framing))
            if embeddings.lost:
                raise UserError(f"The embedding of {path} could not be kept; stopped there.")
            progress.advance(note=path.name)
        unreadable.finish()
        deep.finish()
    computed, found = embeddings.computed, embeddings.found
    if not computed + found:
        raise UserError(f"None of the {len(paths)} images in {images} could be read.")
    skipped = f", {unreadable.count} images skipped" if unreadable.count else ""
    print(f"{embeddings.folder}: {computed} embeddings computed, {found} already there{skipped}")

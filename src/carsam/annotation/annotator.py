"""One worker's work: the images of a shard through the engine, and their masks into a file."""

from collections.abc import Callable

from PIL import Image

from carsam.annotation.items import (
    Annotations,
    ErrorRecord,
    ImageRecord,
    Item,
    MaskRecord,
    Part,
)
from carsam.annotation.job import IDS_IN_A_SHARD, Done, Job, Shard
from carsam.annotation.outputs import find_output
from carsam.annotation.outputs.base import About
from carsam.annotation.prompting.base import Ask, Prompting
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.decode import EncodedImage
from carsam.images.remarks import Tell
from carsam.threads import set_threads

Hear = Callable[[str], object]
"""Called with the name of each image when it begins."""


class Annotator:
    """Annotates one shard after the other with a model that is loaded once.

    Args:
        warn: told what is assumed of a float model's file, and of images with more than 8 bits.

    Raises:
        UserError: the model cannot be loaded.
    """

    def __init__(self, job: Job, warn: Tell) -> None:
        set_threads(job.threads)
        Image.MAX_IMAGE_PIXELS = job.pixels
        self._job, self._warn = job, warn
        self._ask = job.prompting.asks(load(job.model, job.engine, job.device, warn))

    def annotate(self, shard: Shard, hear: Hear) -> Done:
        """Annotate a shard and write its file.

        Raises:
            UserError: the file cannot be written.
        """
        job = self._job
        found = annotate_part(shard.part, job.prompting, self._ask, hear, self._warn)
        about = About(
            job.prompting.categories,
            {**job.info, "shard": shard.number},
            first_id=1 + shard.number * IDS_IN_A_SHARD,
        )
        content = find_output(job.output).content(found, about)
        job.out.write(shard.file(job.output), content)
        return Done(shard.number, len(found.images), len(found.masks), len(found.errors))


def annotate_part(
    part: Part, prompting: Prompting, ask: Ask, hear: Hear, warn: Tell
) -> Annotations:
    """Return what is found on the wanted images of a part; what fails becomes an error of it."""
    found = Annotations()
    try:
        for item, read in part:
            request = prompting.request(item)
            if request is not None:
                hear(item.name)
                try:
                    (height, width), records = ask(
                        EncodedImage(item.name, read()), item, request, warn
                    )
                    _check_size(item, height, width)
                except (UserError, MemoryError) as error:
                    reason = str(error) or f"Image {item.name} needs more memory than there is."
                    found.errors.append(ErrorRecord(request.image_id, item.name, reason))
                else:
                    found.images.append(ImageRecord(request.image_id, item.name, width, height))
                    found.masks += [each for each in records if isinstance(each, MaskRecord)]
                    found.errors += [each for each in records if isinstance(each, ErrorRecord)]
    except UserError as error:  # what holds the images is damaged; those before it are kept
        found.errors.append(ErrorRecord(None, part.key, str(error)))
    return found


def _check_size(item: Item, height: int, width: int) -> None:
    if item.size is not None and 0 not in item.size and item.size != (height, width):
        raise UserError(
            f"Image {item.name} has {width} x {height} pixels, but the json says {item.size[1]} x "
            f"{item.size[0]}; its boxes would not fit."
        )

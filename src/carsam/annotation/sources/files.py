"""Images that are files of their own: in a folder, or those that a COCO json lists."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from carsam.annotation.items import Item, Part, Reader, cut
from carsam.annotation.sources.base import Wanted
from carsam.annotation.storage import Local, Storage
from carsam.errors import UserError
from carsam.evaluation.coco_entries import read_entries
from carsam.evaluation.image_files import find_files
from carsam.evaluation.warning_log import WarningLog
from carsam.images.listing import endings
from carsam.images.read import list_images
from carsam.progress import Progress


@dataclass(frozen=True)
class Files:
    """Files of a folder; `places` are their names in it, None for one that is not there."""

    folder: Storage
    items: Sequence[Item]
    places: Sequence[str | None]

    @property
    def images(self) -> int:
        return len(self.items)

    @property
    def key(self) -> str:
        names = "\n".join(f"{item.id}\t{item.name}" for item in self.items)
        return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()

    def __iter__(self) -> Iterator[tuple[Item, Reader]]:
        for item, place in zip(self.items, self.places, strict=True):
            yield item, partial(self._read, item, place)

    def _read(self, item: Item, place: str | None) -> bytes:
        if place is None:
            raise UserError(f"Cannot read image {item.name}: it is not in {self.folder}.")
        return self.folder.read(place)


class FolderSource:
    """The images of a folder and its subfolders, by name."""

    def __init__(self, folder: Storage) -> None:
        self.folder = folder

    def parts(self, size: int, wanted: Wanted, progress: Progress) -> list[Part]:
        names = _image_names(self.folder, progress)
        items = [Item(name, None, number) for number, name in enumerate(names, 1)]
        return [
            Files(self.folder, group, [item.name for item in group])
            for group in cut([item for item in items if wanted(item)], size)
        ]


class CocoSource:
    """The images that a COCO json lists, by file name.

    Args:
        path: of the json.
        folder: of its images.
    """

    def __init__(self, path: Path, folder: Storage) -> None:
        self.path, self.folder = path, folder

    def parts(self, size: int, wanted: Wanted, progress: Progress) -> list[Part]:
        log = WarningLog(self.path)
        listed = read_entries(self.path, log).images
        items = [
            Item(image.file_name, image.id, number, (image.height, image.width))
            for number, image in enumerate(listed, 1)
        ]
        items = [item for item in items if wanted(item)]
        places = self._places([item.name for item in items], log)
        log.tell(progress)
        return [
            Files(self.folder, group, [places.get(item.name) for item in group])
            for group in cut(items, size)
        ]

    def _places(self, names: Sequence[str], log: WarningLog) -> dict[str, str]:
        if isinstance(self.folder, Local) and names:
            return find_files(names, self.folder.root, log)
        return {name: name for name in names}


def _image_names(folder: Storage, progress: Progress) -> list[str]:
    if isinstance(folder, Local):
        paths = list_images(folder.root, warn=progress.warn, info=progress.info)
        return [path.relative_to(folder.root).as_posix() for path in paths]
    names = [name for name in folder.names() if Path(name).suffix.lower() in endings()]
    if not names:
        raise UserError(
            f"Found no image in {folder}; expected files with an ending such as .jpg or .png."
        )
    return names

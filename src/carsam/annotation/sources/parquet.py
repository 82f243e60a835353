"""Images in the rows of parquet files, as Hugging Face's datasets and many data lakes keep them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from carsam.annotation.items import Item, Part, Reader
from carsam.annotation.sources.base import Wanted
from carsam.annotation.storage import Storage
from carsam.errors import UserError
from carsam.evaluation.ids import Id, parse_id
from carsam.extras import require
from carsam.progress import Progress

IMAGES = ("image", "jpg", "jpeg", "png", "bytes", "content")
NAMES = ("file_name", "filename", "path", "image_path", "name", "__key__")
IDS = ("image_id", "id")
"""Columns by what they hold; of each the first that is there is taken."""


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of one row group; `first` is the source's number of the first."""

    folder: Storage
    file: str
    group: int
    start: int
    stop: int
    first: int

    @property
    def images(self) -> int:
        return self.stop - self.start

    @property
    def key(self) -> str:
        return f"{self.file} {self.group} {self.start} {self.stop}"

    def __iter__(self) -> Iterator[tuple[Item, Reader]]:
        with _opened(self.folder, self.file) as file:
            columns = _columns(file.schema_arrow.names, f"{self.folder}/{self.file}")
            rows = file.read_row_group(self.group, [name for name in columns.values() if name])
        for number, row in enumerate(rows.slice(self.start, self.images).to_pylist(), self.first):
            value, name = row[columns["image"]], row.get(columns["name"] or "")
            if isinstance(value, Mapping):  # as Hugging Face's datasets write images
                name = name or value.get("path")
                value = value.get("bytes") or value.get("path")
            place = f"{self.file}#{number}"
            identity = _id(row, columns["id"])
            item = Item(str(name or place), identity, number, named=bool(name))
            yield item, partial(self._read, item, value)

    def _read(self, item: Item, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return self.folder.read(value)
        raise UserError(
            f"Cannot read image {item.name}: its row holds {type(value).__name__}, expected bytes, "
            "or a path in the folder of the parquet file."
        )


class ParquetSource:
    """The rows of parquet files; a part lies in one row group."""

    def __init__(self, folder: Storage, files: Sequence[str]) -> None:
        require("annotate", "pyarrow")
        self.folder, self.files = folder, files

    def parts(self, size: int, wanted: Wanted, progress: Progress) -> list[Part]:
        parts: list[Part] = []
        first = 1
        for name in self.files:
            for group, rows in enumerate(self._row_groups(name)):
                for start in range(0, rows, size):
                    stop = min(start + size, rows)
                    parts.append(Rows(self.folder, name, group, start, stop, first + start))
                first += rows
        if not parts:
            raise UserError(f"Found no row in {self.folder}; expected parquet files with images.")
        return parts

    def _row_groups(self, name: str) -> list[int]:
        """Return the number of rows in each row group, once the columns are known to suit."""
        with _opened(self.folder, name) as file:
            _columns(file.schema_arrow.names, f"{self.folder}/{name}")
            metadata = file.metadata
            return [metadata.row_group(each).num_rows for each in range(metadata.num_row_groups)]


@contextmanager
def _opened(folder: Storage, name: str) -> Iterator[Any]:
    """Open a parquet file; a UserError names it where it is damaged."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    file: IO[bytes]
    with folder.open(name) as file:
        try:
            yield ParquetFile(file)
        except (ArrowException, OSError) as error:
            raise UserError(f"Cannot read {folder}/{name}: {error}") from error


def _columns(names: Sequence[str], file: str) -> dict[str, str | None]:
    """Return the column of the images, their names and ids."""
    found = {
        what: next((name for name in known if name in names), None)
        for what, known in (("image", IMAGES), ("name", NAMES), ("id", IDS))
    }
    if found["image"] is None:
        if found["name"] is None:
            raise UserError(
                f"{file} has the columns {', '.join(names)}; expected images in a column named "
                f"{', '.join(IMAGES)}, or their paths in one named {', '.join(NAMES)}."
            )
        found["image"] = found["name"]
    return found


def _id(row: Mapping[str, Any], column: str | None) -> Id | None:
    return None if column is None else parse_id(row[column])

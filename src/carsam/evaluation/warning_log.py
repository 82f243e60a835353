"""Named warnings about input that an evaluation leaves out or mends: counted, told once, kept."""

from carsam.errors import LISTED, listed
from carsam.progress import Progress

MESSAGES = {
    "missing-image": "{count} images of the json are not in the folder; left out",
    "unreadable-image": "{count} image files could not be decoded; left out",
    "too-large-image": "{count} image files have more pixels than --max-megapixels; left out",
    "deep-image": "{count} image files have more than 8 bits; the values used became 0 to 255",
    "image-size": "{count} image files have another size than the json says; left out",
    "zero-area-box": "{count} boxes have no area; not prompted",
    "box-outside-image": "{count} boxes lie outside their image; not prompted",
    "box-clipped": "{count} boxes reach more than a pixel over the image's edge; clipped",
    "empty-mask": "{count} annotations have a mask without a pixel; not prompted",
    "detection-without-image": "{count} detections are on images the json lacks; left out",
    "detection-without-category": "{count} detections have a category the json lacks; left out",
}
"""Every warning's name and sentence. What is not prompted costs recall, not mean IoU; a left out
image goes with its annotations."""


class WarningLog:
    """Counts warnings by name and keeps the first ids of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[int | str]] = {}
        self._told: set[str] = set()

    def add(self, name: str, item: int | str) -> None:
        """Count one `item` (an id or a file name) under the warning `name` of `MESSAGES`."""
        if name not in MESSAGES:
            raise KeyError(name)
        self._counts[name] = self._counts.get(name, 0) + 1
        examples = self._examples.setdefault(name, [])
        if len(examples) < LISTED:
            examples.append(item)

    def __str__(self) -> str:
        return " ".join(f"{self._sentence(name)}." for name in self._counts)

    def tell(self, progress: Progress) -> None:
        """Send every warning that was not told before to `progress`."""
        for name in self._counts:
            if name not in self._told:
                self._told.add(name)
                progress.warn(f"{name}: {self._sentence(name)}")

    def to_json(self) -> list[dict]:
        """Return the warnings as `name`, `count`, `message` and `examples`."""
        return [
            {
                "name": name,
                "count": count,
                "message": MESSAGES[name].format(count=count),
                "examples": self._examples[name],
            }
            for name, count in self._counts.items()
        ]

    def _sentence(self, name: str) -> str:
        count = self._counts[name]
        return f"{MESSAGES[name].format(count=count)} ({listed(self._examples[name], count)})"

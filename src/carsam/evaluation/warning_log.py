"""Named warnings about input that is left out or mended: counted, told once, kept."""

from pathlib import Path

from carsam.evaluation.json_reading import shown
from carsam.progress import Progress

MESSAGES = {
    "image-entry": "{count} images of {json} have no id or no file name; left out",
    "image-without-size": "{count} images of {json} have no usable width and height; left out",
    "repeated-image": "{count} images of {json} are listed more than once; used once",
    "missing-image": "{count} images of {json} are not in the folder; left out",
    "ambiguous-image": "{count} images of {json} may be one of several files of the folder, or "
    "share one; left out",
    "unreadable-image": "{count} image files of {json} could not be decoded; left out",
    "too-large-image": "{count} image files of {json} have more pixels than the limit; left out, "
    "raise it with --max-megapixels",
    "deep-image": "{count} image files of {json} have more than 8 bits; the values that they use "
    "became 0 to 255",
    "image-size": "{count} image files have another size than {json} says; left out",
    "annotation-entry": "{count} annotations of {json} are not objects with keys; left out",
    "annotation-without-image": "{count} annotations of {json} are on images that it does not "
    "list, or not usably; left out",
    "annotation-without-box": "{count} annotations of {json} have neither a usable box nor a "
    "usable mask; left out",
    "annotation-without-bbox": "{count} annotations of {json} have no usable bbox; not prompted",
    "unclear-crowd": "{count} annotations of {json} have an iscrowd that is neither 0 nor 1; "
    "taken as 0",
    "no-mask": "{count} annotations of {json} have no segmentation; left out",
    "unusable-mask": "{count} annotations of {json} have a segmentation that cannot be drawn "
    "(polygons of fewer than three points, with half a point, with what is no number or far "
    "outside the image, or run lengths that do not fit the image); left out",
    "empty-mask": "{count} annotations of {json} have a mask without a pixel; left out",
    "partial-mask": "{count} annotations of {json} have polygons that cannot be drawn (of fewer "
    "than three points, with half a point, with what is no number or far outside the image); "
    "their other polygons are used",
    "box-from-mask": "{count} annotations of {json} have no usable bbox; that of their mask is "
    "used",
    "area-from-mask": "{count} annotations of {json} have no usable area; that of their mask is "
    "used",
    "no-category": "{count} annotations of {json} have no category; evaluated as one of their own",
    "unlisted-category": "{count} annotations of {json} have a category that it does not list; "
    "evaluated under it",
    "zero-area-box": "{count} boxes of {prompts} have no area; not prompted",
    "box-outside-image": "{count} boxes of {prompts} lie outside their image; not prompted",
    "box-clipped": "{count} boxes of {prompts} reach more than a pixel over the image's edge; "
    "clipped",
    "detection-entry": "{count} detections of {prompts} lack an image, a category, a box or a "
    "score that can be read; left out",
    "detection-without-image": "{count} detections of {prompts} are on images that {json} lacks; "
    "left out",
    "detection-without-category": "{count} detections of {prompts} have a category that {json} "
    "lacks; left out",
}
"""Every warning's name and sentence. What is not prompted costs recall, not mean IoU; a left out
image goes with its annotations, and a left out annotation counts nowhere."""

EXAMPLES = 5


class WarningLog:
    """Counts warnings by name and keeps the first ids of each.

    Args:
        json: the COCO json; the messages give its file name.
        detections: the detector's json, where that makes the prompts.
    """

    def __init__(self, json: str | Path = "the json", detections: str | Path | None = None) -> None:
        self.json = Path(json).name
        self._prompts = self.json if detections is None else Path(detections).name
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[int | str]] = {}
        self._told: dict[str, int] = {}

    def add(self, name: str, item: int | str) -> None:
        """Count one `item` (an id or a file name) under the warning `name` of `MESSAGES`."""
        if name not in MESSAGES:
            raise KeyError(name)
        self._counts[name] = self._counts.get(name, 0) + 1
        examples = self._examples.setdefault(name, [])
        if len(examples) < EXAMPLES:
            examples.append(item)

    def sentences(self) -> str:
        """Return all warnings as sentences to add to another one, a space before each."""
        return "".join(f" {self._sentence(name)}." for name in self._counts)

    def tell(self, progress: Progress, *, last: bool = False) -> None:
        """Send every warning that was not told before to `progress`.

        The `last` time those are sent again that have counted on since they were told.
        """
        for name, count in self._counts.items():
            told = self._told.get(name, 0)
            if told == 0 or (last and told < count):
                self._told[name] = count
                progress.warn(f"{name}: {self._sentence(name)}")

    def to_json(self) -> list[dict]:
        """Return the warnings as `name`, `count`, `message` and `examples`."""
        return [
            {
                "name": name,
                "count": count,
                "message": self._message(name),
                "examples": self._examples[name],
            }
            for name, count in self._counts.items()
        ]

    def _sentence(self, name: str) -> str:
        return f"{self._message(name)} ({listed(self._examples[name], self._counts[name])})"

    def _message(self, name: str) -> str:
        return MESSAGES[name].format(
            count=self._counts[name], json=self.json, prompts=self._prompts
        )


def listed(items: list, count: int | None = None) -> str:
    """Return the first items, comma-separated, with ", ..." when there are more."""
    text = ", ".join(shown(item) for item in items[:EXAMPLES])
    return text + (", ..." if (count or len(items)) > EXAMPLES else "")

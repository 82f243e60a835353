"""Video sequences with true masks on disk: DAVIS's folders, and those of SA-V.

    DAVIS   JPEGImages/480p/dog/00000.jpg           Annotations/480p/dog/00000.png
    SA-V    JPEGImages_24fps/sav_01/00000.jpg       Annotations_6fps/sav_01/000/00000.png

In DAVIS the number of a pixel is its object's, in SA-V each object has masks of its own, which
may overlap, of every fourth frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from carsam.errors import UserError, few
from carsam.images.label_masks import read_labels
from carsam.video.frames import frame_files

Year = Literal["2016", "2017"]
"""Of DAVIS: in 2016 all objects are one foreground."""

FOREGROUND = 1
VOID = 255
"""What DAVIS 2017 writes where nothing is to be judged."""

LEAST_FRAMES = 3
"""With true masks, as neither the first nor the last is judged."""

Masks = dict[int, np.ndarray]
"""Masks (H, W) bool by object."""


@dataclass(frozen=True)
class VideoSequence:
    """One video and where its true masks are.

    Args:
        name: of its folder.
        frames: image files, in order.
        files: of true masks: by place of the frame, then by object; 0 stands for all objects.
        year: how files of all objects are read.
    """

    name: str
    frames: tuple[Path, ...]
    files: Mapping[int, Mapping[int, Path]]
    year: Year

    @property
    def judged(self) -> tuple[int, ...]:
        """Places of the frames whose masks are judged: all with true ones but first and last."""
        return tuple(sorted(self.files))[1:-1]

    @property
    def by_object(self) -> bool:
        """Whether each object has masks of its own, as in SA-V."""
        return any(0 not in files for files in self.files.values())

    def true_masks(self, place: int) -> tuple[tuple[int, int], Masks]:
        """Return height and width of a frame with true masks, and those of the objects in it.

        Raises:
            UserError: a file is damaged, or of another size than the others of the frame.
        """
        read = {number: read_labels(path) for number, path in self.files[place].items()}
        sizes = {labels.shape for labels in read.values()}
        if len(sizes) > 1:
            raise UserError(f"{self.name}: the masks of frame {place} have different sizes.")
        masks: Masks = {}
        for number, labels in read.items():
            if number or self.year == "2016":
                masks[number or FOREGROUND] = labels > 0
            else:
                present = (int(label) for label in np.unique(labels))
                masks |= {label: labels == label for label in present if label not in (0, VOID)}
        ((height, width),) = sizes
        return (height, width), {number: mask for number, mask in masks.items() if mask.any()}

    def first_masks(self) -> dict[int, tuple[int, np.ndarray]]:
        """Return each object's first frame and its mask there.

        Objects of a DAVIS sequence are those in its first frame.

        Raises:
            UserError: there is none.
        """
        first: dict[int, tuple[int, np.ndarray]] = {}
        for place in sorted(self.files) if self.by_object else sorted(self.files)[:1]:
            for number, mask in self.true_masks(place)[1].items():
                first.setdefault(number, (place, mask))
        if not first:
            raise UserError(
                f"The true mask of the first frame of {self.name} holds no object for the protocol "
                f"of {self.year}. Masks of 0 and 255 have one for that of 2016."
            )
        return dict(sorted(first.items()))


def read_sequences(
    root: str | Path, year: Year, names: Sequence[str] | None = None
) -> list[VideoSequence]:
    """Return the sequences below a root of DAVIS's or SA-V's layout, by name.

    Args:
        root: holds `JPEGImages` and `Annotations`, with or without `480p`, or `JPEGImages_24fps`
            and `Annotations_6fps`.
        year: the protocol; it makes no difference to SA-V.
        names: of the sequences wanted; all that have annotations unless given.

    Raises:
        UserError: folders or frames are missing.
    """
    images, masks, by_object = _folders(Path(root))
    found = sorted(path.name for path in masks.iterdir() if path.is_dir())
    unknown = [name for name in names or () if name not in found]
    if unknown or not found:
        raise UserError(
            f"Found no folder of masks for {few(unknown)} in {masks}; expected names among "
            f"{few(found)}."
            if unknown
            else f"Found no folder of masks in {masks}; expected one for each sequence."
        )
    read = _read_by_object if by_object else _read_together
    return [read(name, images / name, masks / name, year) for name in names or found]


def _folders(root: Path) -> tuple[Path, Path, bool]:
    """Return the folders of frames and masks, and whether each object has masks of its own."""
    layouts = (
        ("JPEGImages/480p", "Annotations/480p", False),
        ("JPEGImages", "Annotations", False),
        ("JPEGImages_24fps", "Annotations_6fps", True),
    )
    for images, masks, by_object in layouts:
        if (root / images).is_dir() and (root / masks).is_dir():
            return root / images, root / masks, by_object
    raise UserError(
        f"{root} has no frames and masks; expected the folders JPEGImages and Annotations, with or "
        "without 480p in them, as in DAVIS, or JPEGImages_24fps and Annotations_6fps, as in SA-V."
    )


def _read_together(name: str, images: Path, masks: Path, year: Year) -> VideoSequence:
    """Read a sequence of DAVIS, with one file for all objects of a frame."""
    frames = frame_files(images)
    annotated = {path.stem: path for path in masks.glob("*.png")}
    _check_stems(name, frames, annotated, [path.stem for path in frames])
    files = {place: {0: annotated[path.stem]} for place, path in enumerate(frames)}
    return _checked(VideoSequence(name, tuple(frames), files, year))


def _read_by_object(name: str, images: Path, masks: Path, year: Year) -> VideoSequence:
    """Read a sequence of SA-V, with a folder of masks for each object."""
    frames = frame_files(images)
    places = {path.stem: place for place, path in enumerate(frames)}
    files: dict[int, dict[int, Path]] = {}
    for folder in sorted(path for path in masks.iterdir() if path.is_dir()):
        if not folder.name.isdigit():
            raise UserError(f"{folder} is no object's number; expected names such as 000.")
        annotated = {path.stem: path for path in folder.glob("*.png")}
        _check_stems(name, frames, annotated, [])
        for stem, path in annotated.items():
            files.setdefault(places[stem], {})[int(folder.name) + 1] = path
    return _checked(VideoSequence(name, tuple(frames), files, year))


def _check_stems(
    name: str, frames: Sequence[Path], annotated: Mapping[str, Path], needed: Sequence[str]
) -> None:
    """Refuse masks without frames, and frames without the masks that they need."""
    stems = {path.stem for path in frames}
    without_frame = [stem for stem in sorted(annotated) if stem not in stems]
    without_mask = [stem for stem in needed if stem not in annotated]
    if without_frame or without_mask:
        lacking, there, of = (
            ("frame", "masks", without_frame) if without_frame else ("mask", "frames", without_mask)
        )
        raise UserError(f"Sequence {name} has {there} without a {lacking}: {few(of)}. Restore it.")


def _checked(sequence: VideoSequence) -> VideoSequence:
    if len(sequence.files) < LEAST_FRAMES:
        raise UserError(
            f"Sequence {sequence.name} has {len(sequence.files)} frames with true masks; expected "
            f"{LEAST_FRAMES} or more, as neither the first nor the last is judged."
        )
    return sequence

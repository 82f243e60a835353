"""The frames of a video, read one at a time when they are asked for."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from carsam.errors import UserError
from carsam.images.decode import opened
from carsam.images.preprocess import Framing, normalise_and_pad, resize
from carsam.images.read import ImageSource, list_images, read_image

VideoSource = str | os.PathLike[str] | Sequence[ImageSource]
"""A folder of frames, a video file, or images."""

VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


class Frames(Protocol):
    """The frames of one video, which all have the same size.

    `size` is their height and width, `names` what masks made of them are called.
    """

    size: tuple[int, int]
    names: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one frame, RGB uint8 (H, W, 3)."""
        ...


class ImageFrames:
    """Frames that are image files, or images in memory.

    Raises:
        UserError: there is none; a file is no image; on reading, also that a frame has another
            size than the first.
    """

    def __init__(self, images: Sequence[ImageSource]) -> None:
        if not len(images):
            raise UserError("Found no frames; give one image or more.")
        self._images = images
        self.names: Sequence[str] = [
            Path(image).stem if isinstance(image, str | os.PathLike) else f"{index:05d}"
            for index, image in enumerate(images)
        ]
        _check_sizes(images)
        first = read_image(images[0])
        self.size = (first.shape[0], first.shape[1])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        frame = read_image(self._images[index], warn=lambda _: None)
        if frame.shape[:2] != self.size:
            raise _other_size(self.names[index], frame.shape[1::-1], self.size[::-1])
        return frame


def open_frames(source: VideoSource) -> Frames:
    """Return the frames of a folder of images, a video file (extra `video`), or a list of images.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        return ImageFrames(source)
    path = Path(source)
    if path.is_file() and path.suffix.lower() in VIDEO_ENDINGS:
        from carsam.video.video_file import VideoFileFrames

        return VideoFileFrames(path)
    return ImageFrames(frame_files(path))


def frame_files(folder: Path) -> list[Path]:
    """Return the image files in a folder, in the order of their numbers, or of their names.

    Raises:
        UserError: there is no such folder, or no image in it, or two frames have one number.
    """
    if folder.is_file():
        raise UserError(
            f"{folder} is no folder of frames, and no video file; expected an ending such as "
            f"{' '.join(VIDEO_ENDINGS)}."
        )
    files = [path for path in list_images(folder, warn=_refuse) if path.parent == folder]
    if not files:
        raise UserError(f"Found images only in subfolders of {folder}; give the one of a video.")
    if not all(path.stem.isdecimal() for path in files):
        return sorted(files, key=lambda path: path.name)
    numbered = sorted(files, key=lambda path: int(path.stem))
    for one, other in pairwise(numbered):
        if int(one.stem) == int(other.stem):
            raise UserError(f"{one} and {other.name} are both frame {int(one.stem)}; remove one.")
    return numbered


def _refuse(message: str) -> None:
    """A frame that is passed over would shift all that follow."""
    raise UserError(f"{message} Restore these frames, or remove them on purpose.")


def frame_pixels(frame: np.ndarray, framing: Framing) -> np.ndarray:
    """Return the model's pixels (3, S, S) float32 of a frame (H, W, 3).

    SAM 2 shrinks the frames of videos with Pillow's bicubic filter to 8 bits, not as it does
    images (`sam2.utils.misc` of Meta's package).
    """
    if framing.stretched:
        extent = (framing.side, framing.side)
        resized = np.asarray(Image.fromarray(frame).resize(extent, Image.Resampling.BICUBIC))
    else:
        resized = resize(frame, framing)
    return normalise_and_pad(resized, framing)


def _check_sizes(images: Sequence[ImageSource]) -> None:
    """Refuse files of different sizes before any work; their heads alone are read."""
    sizes: dict[tuple[int, int], str] = {}
    for image in images:
        if isinstance(image, str | os.PathLike):
            with opened(Path(image)) as file:
                sizes.setdefault(file.size, Path(image).name)
        if len(sizes) > 1:
            (expected, _), (found, name) = sizes.items()
            raise _other_size(name, found, expected)


def _other_size(name: str, found: Sequence[int], expected: Sequence[int]) -> UserError:
    return UserError(
        f"Frame {name} has {found[0]} x {found[1]} pixels, frames before it {expected[0]} x "
        f"{expected[1]}; expected one size for all frames of a video."
    )

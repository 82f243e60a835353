"""The frames of a video file, decoded one after the other with PyAV (extra `video`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from carsam.errors import UserError
from carsam.extras import require


class VideoFileFrames:
    """Frames of a video's first stream; implements `carsam.video.frames.Frames`.

    Whoever goes through them in order has each decoded once. For an earlier frame than the last
    one, the file is decoded from its beginning again.

    Raises:
        UserError: PyAV is not installed, or the file holds no video that it can read.
    """

    def __init__(self, path: Path) -> None:
        require("video")
        self._path = path
        self._count, self.size = self._measured()
        self.names: Sequence[str] = [f"{index:05d}" for index in range(self._count)]
        self._decoded: Iterator[np.ndarray] = iter(())
        self._place, self._last = -1, np.empty(0)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < self._count:
            raise IndexError(index)
        if self._place < 0 or index < self._place:
            self._decoded, self._place = self._frames(), -1
        while self._place < index:
            self._last, self._place = next(self._decoded), self._place + 1
        return self._last

    def _measured(self) -> tuple[int, tuple[int, int]]:
        """Return the number of frames, which only decoding tells for certain, and their size."""
        count, size = 0, (0, 0)
        for frame in self._decode():
            if count and (frame.height, frame.width) != size:
                raise UserError(
                    f"Frame {count} of {self._path} has {frame.width} x {frame.height} pixels, "
                    f"frames before it {size[1]} x {size[0]}; expected one size."
                )
            count, size = count + 1, (frame.height, frame.width)
        if count == 0:
            raise UserError(f"{self._path} holds no frames; give another video file.")
        return count, size

    def _frames(self) -> Iterator[np.ndarray]:
        return (frame.to_ndarray(format="rgb24") for frame in self._decode())

    def _decode(self) -> Iterator[Any]:
        import av

        try:
            with av.open(str(self._path)) as file:
                if not file.streams.video:
                    raise UserError(f"{self._path} holds no video; give another file.")
                yield from file.decode(video=0)
        except (av.FFmpegError, OSError) as error:
            raise UserError(
                f"{self._path} cannot be decoded: {error}. Give an intact video file, or a folder "
                "of its frames."
            ) from error

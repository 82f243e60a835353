"""What a quantization calibrates on, written once for the library, the commands and comparisons."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from carsam.calibration.video_folders import frames_below
from carsam.errors import UserError


@dataclass(frozen=True)
class Calibration:
    """Which images and prompts calibrate, and where the work is done.

    Args:
        images: folder of calibration images; None takes frames of `videos`.
        coco: instances json; its images are the ones to choose from, its boxes the prompts. Without
            it the float model finds boxes itself.
        avoid: file names that must not calibrate, such as those evaluated on.
        count: images to use.
        exact: refuse fewer images than `count`.
        prompts_per_image: boxes and clicks to use of one image, at least 1; moved copies make up
            for boxes that it lacks.
        clicks: share of them that are clicks, 0 to 1; one box stays in any case.
        seed: chooses images and boxes, and drives everything random.
        device: `auto`, `cpu` or `cuda`.
        memory: gigabytes of activations to keep in memory at most; the rest goes to the temporary
            disk. None for 0.75, more where that disk has no room for the rest.
        sharers: how many processes like this one share the machine's memory.
        videos: folder of videos, as folders of frames, that a memory is calibrated on; otherwise it
            is on clips that a moving camera makes of the images.

    Raises:
        UserError: a number is outside its range, or there are neither images nor videos.
    """

    images: str | Path | None
    coco: str | Path | None = None
    avoid: Collection[str] = ()
    count: int = 32
    exact: bool = False
    prompts_per_image: int = 16
    clicks: float = 0.5
    seed: int = 0
    device: str = "auto"
    memory: float | None = None
    sharers: int = 1
    videos: str | Path | None = None

    @property
    def pictures(self) -> str | Path:
        """The folder that calibration images are chosen from."""
        if self.images is not None:
            return self.images
        assert self.videos is not None
        return frames_below(self.videos)

    def __post_init__(self) -> None:
        if self.images is None and self.videos is None:
            raise UserError("Found nothing to calibrate on; give images, or videos.")
        for name in ("prompts_per_image", "sharers"):
            number = getattr(self, name)
            if number < 1:
                raise UserError(f"{name} is {number}; expected at least 1.")
        if not 0 <= self.clicks <= 1:
            raise UserError(f"clicks is {self.clicks}; expected a share, 0 to 1.")
        if self.memory is not None and not self.memory >= 0:
            raise UserError(f"memory is {self.memory}; expected gigabytes, 0 or more.")

"""Folders of frames to calibrate on, however they lie."""

from pathlib import Path

from carsam.errors import UserError, few
from carsam.images.listing import endings
from carsam.video.frames import frame_files

LAYOUTS = ("JPEGImages/480p", "JPEGImages", "JPEGImages_24fps")
"""Where DAVIS and SA-V have their frames, beside their masks."""

LEAST_FRAMES = 2


def frames_below(root: str | Path) -> Path:
    """Return the folder with the frames alone: of DAVIS and SA-V that without the masks."""
    below = (Path(root) / layout for layout in LAYOUTS)
    return next((folder for folder in below if folder.is_dir()), Path(root))


def find_videos(root: str | Path) -> list[list[Path]]:
    """Return the frames of every video below a folder, in order, by the names of their folders.

    Args:
        root: in DAVIS's layout or SA-V's, a folder with a folder of frames for each video, or a
            folder of frames.

    Raises:
        UserError: there is no folder, no video of two frames or more in it, or frames lie beside
            folders of frames.
    """
    folder = frames_below(root)
    if not folder.is_dir():
        raise UserError(f"{root} is no folder; expected one with folders of frames.")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and _has_images(path))
    flat = _has_images(folder)
    if flat and inside:
        raise UserError(
            f"{folder} has frames and folders of frames ({few([path.name for path in inside])}); "
            "expected either. Give the folder of one video, or move its frames into a folder."
        )
    videos = [frame_files(path) for path in ([folder] if flat else inside)]
    videos = [files for files in videos if len(files) >= LEAST_FRAMES]
    if not videos:
        raise UserError(
            f"Found no video of {LEAST_FRAMES} frames or more in {folder}; expected folders of "
            "images, one for each video."
        )
    return videos


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in endings() and path.is_file() for path in folder.iterdir())

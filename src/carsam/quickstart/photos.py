"""Photos for the quickstart: those that scikit-image's wheel carries, with boxes drawn by hand."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

BOXES = Path(__file__).parent / "photos.json"


@dataclass(frozen=True)
class Photo:
    """A photo on this computer.

    Args:
        path: its file.
        credit: what it shows, who took it and its licence, as scikit-image states them.
        boxes: (N, 4) float64, x0 y0 x1 y1 in pixels, one for each object to find.
    """

    path: Path
    credit: str
    boxes: np.ndarray


def installed_photos() -> list[Photo]:
    """Return the photos that the extra `photos` brings; none where it is not installed."""
    package = find_spec("skimage")  # only its files are used: importing it takes a second
    if package is None or package.origin is None:
        return []
    folder = Path(package.origin).parent / "data"
    listed = json.loads(BOXES.read_text(encoding="utf-8"))
    photos = [
        Photo(folder / photo["file"], photo["credit"], np.array(photo["boxes"], np.float64))
        for photo in listed
    ]
    return [photo for photo in photos if photo.path.is_file()]

"""`carsam track`: the masks of an object, or of several, in all frames of a video."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from carsam.cli.options import Common, EngineName, parse_box, parse_point
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.formats.files import check_writable
from carsam.images.label_masks import MOST_OBJECTS, read_labels, write_labels
from carsam.video.frames import open_frames
from carsam.video.predictor import SAM2VideoPredictor, video_engine
from carsam.video.session import Session


def track(
    model: str,
    frames: Path,
    /,
    *,
    out: Path,
    mask: Path | None = None,
    box: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    point: Annotated[list[str] | None, Parameter(negative="", allow_leading_hyphen=True)] = None,
    frame: int = 0,
    engine: EngineName = "auto",
    image_size: int | None = None,
    memory_frames: int | None = None,
    common: Common | None = None,
) -> None:
    """Follow objects through a video, from a prompt in one frame to both ends.

    Args:
        model: folder of a quantized model that has a memory, or such a float model.
        frames: folder of frames, in the order of their numbers or names; or a video file.
        out: folder where a PNG for each frame goes, in which a pixel's number is its object's.
        mask: such a PNG of the frame with the prompt; grey masks of 0 and 255 have one object.
        box: x0,y0,x1,y1 around the only object, in pixels.
        point: x,y on the only object, or x,y,0 outside it; repeat for more points.
        frame: index of the frame with the prompt.
        engine: the arithmetic to run the model with.
        image_size: side of a float model's inputs, in pixels; its own unless given.
        memory_frames: frames that are recalled beside those with prompts, all that the model was
            trained with (6 in SAM 2) unless given; fewer are faster and follow less well.
    """
    options = common or Common()
    options.prepare()
    corners = parse_box(box) if box is not None else None
    points = [parse_point(text) for text in point or []]
    if (mask is None) == (corners is None and not points):
        raise UserError("Give either --mask first.png, or --box x0,y0,x1,y1 and --point x,y.")
    labels = None if mask is None else _first_labels(mask)
    video = open_frames(frames)
    names = [f"{name}.png" for name in video.names]
    _check_out(out, frames, names)
    with options.progress() as progress:
        loaded = load(model, engine, options.device, progress.warn, image_size=image_size)
        predictor = SAM2VideoPredictor(
            video_engine(loaded),
            non_overlap_masks=True,
            binarize_mask_from_pts_for_mem_enc=labels is None,
            memory_frames=memory_frames,
        )
        session = Session(predictor.model, video, predictor.settings)
        if labels is not None:
            for number in np.unique(labels[labels > 0]):
                predictor.add_new_mask(session, frame, int(number), labels == number)
        else:
            predictor.add_new_points_or_box(
                session,
                frame,
                1,
                np.array([place[:2] for place in points]) if points else None,
                np.array([place[2] for place in points]) if points else None,
                box=None if corners is None else np.array(corners),
            )
        progress.start("Frames", len(video))
        written: set[int] = set()
        for reverse in (False, True):
            for index, numbers, logits in predictor.propagate_in_video(session, reverse=reverse):
                if index not in written:  # the frame with the prompt comes twice
                    write_labels(_labels(numbers, logits), out / names[index])
                    written.add(index)
                    progress.advance(note=names[index])
        progress.finish()
    count = len(session.objects)
    objects = "object" if count == 1 else "objects"
    print(f"{out}: {len(written)} masks of {count} {objects}")


def _first_labels(path: Path) -> np.ndarray:
    """Return the numbers (H, W) uint8 of the objects in a mask."""
    labels = read_labels(path)
    found = np.unique(labels[labels > 0])
    if not len(found):
        raise UserError(f"{path} has no object: all its pixels are 0. Paint one with numbers.")
    return np.minimum(labels, 1) if found.tolist() == [MOST_OBJECTS] else labels


def _labels(numbers: Sequence[int], logits: np.ndarray) -> np.ndarray:
    """Return numbers (H, W) uint8; logits (N, 1, H, W) do not overlap."""
    labels = np.zeros(logits.shape[2:], np.uint8)
    for number, each in zip(numbers, logits[:, 0], strict=True):
        labels[each > 0] = number
    return labels


def _check_out(out: Path, frames: Path, names: Sequence[str]) -> None:
    """Refuse a folder in which masks would replace frames, or one another, or cannot be written."""
    if out.exists() and frames.exists() and out.samefile(frames):
        raise UserError(f"{out} holds the frames themselves; choose another folder for the masks.")
    if len(set(names)) < len(names):
        raise UserError(
            f"Two frames in {frames} have the same name but for its ending; rename one."
        )
    check_writable(out / names[0], "Choose another folder.")

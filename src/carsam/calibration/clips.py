"""Clips to calibrate a memory on: a frame in which objects are followed, and what it recalls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from carsam.calibration.prompts import found_boxes
from carsam.calibration.state_lists import Part
from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.families.base import Family, State
from carsam.images.clicks import are_clicks
from carsam.images.moving_camera import moving_camera
from carsam.images.preprocess import Framing, normalise_and_pad
from carsam.images.prompts import Prompts
from carsam.images.read import ImageSample, read_image
from carsam.progress import Progress
from carsam.video.frames import ImageFrames
from carsam.video.session import Session

STILLS_PER_CLIP = 4
"""Of the calibration images there is one clip for so many, at least one."""

OBJECTS = 2
"""That are followed in a clip, at most."""

REMEMBERED = 2
"""Frames of a clip that are remembered: the first, with prompts, and others at random steps."""


@dataclass(frozen=True)
class Clip:
    """A frame with what is remembered of the frames before it.

    Args:
        pictures: RGB (1 + R, S, S, 3) uint8, the frame and then the remembered ones.
        entries: of the state, by the names of `carsam.families.video.VideoFamily`, on the device.
    """

    pictures: np.ndarray
    entries: dict[str, Tensor]


@dataclass(frozen=True)
class Clips(Sequence[State]):
    """The states of clips before the first stage, made when they are asked for."""

    family: Family
    framing: Framing
    device: torch.device
    clips: tuple[Clip, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Part(self, range(*index.indices(len(self))))
        clip = self.clips[index]
        pixels = np.stack([normalise_and_pad(each, self.framing) for each in clip.pictures])
        entries = {name: tensor.clone() for name, tensor in clip.entries.items()}
        return self.family.start(torch.from_numpy(pixels).to(self.device), None, **entries)


def clips_of_stills(
    engine: TorchVideoEngine,
    images: ImageSample,
    prompts: Sequence[Tensor],
    seed: int,
    progress: Progress,
) -> Clips:
    """Return clips that a moving camera makes of some of the calibration images.

    Args:
        engine: the float model.
        images: those that calibrate.
        prompts: of each, (1, P, 4) in the model's frame; the first boxes are followed.
        seed: moves the cameras, and chooses what is remembered.
    """
    chosen = range(0, len(images), STILLS_PER_CLIP)
    progress.start("Following objects", len(chosen))
    clips = []
    for index in chosen:
        random = np.random.default_rng((seed, index))
        frames = moving_camera(_squared(images[index], engine), _length(engine), random)
        rows = prompts[index][0].cpu().numpy()
        clips.append(_clip(engine, frames, rows[~are_clicks(rows)][:OBJECTS], random))
        progress.advance()
    progress.finish()
    return Clips(engine.family, engine.framing, engine.device, tuple(clips))


def clips_of_videos(
    engine: TorchVideoEngine,
    videos: Sequence[Sequence[Any]],
    count: int,
    seed: int,
    progress: Progress,
) -> Clips:
    """Return clips of videos, at random places of them; the float model finds their objects.

    Args:
        videos: image files of the frames of each, two or more.
        count: of clips; a video gives several if there are fewer videos.
    """
    progress.start("Following objects", count)
    order = np.random.default_rng(seed).permutation(len(videos))
    clips = []
    for index in range(count):
        random = np.random.default_rng((seed, index))
        files = videos[order[index % len(videos)]]
        length = min(len(files), _length(engine))
        start = int(random.integers(len(files) - length + 1))
        frames = [_squared(read_image(file), engine) for file in files[start : start + length]]
        boxes = found_boxes(engine, frames[0], OBJECTS, seed + index)
        clips.append(_clip(engine, np.stack(frames), boxes, random))
        progress.advance()
    progress.finish()
    return Clips(engine.family, engine.framing, engine.device, tuple(clips))


def _length(engine: TorchVideoEngine) -> int:
    """Return the frames of a clip, so that its last one recalls all the others."""
    return engine.memory.frames + 1


def _squared(image: np.ndarray, engine: TorchVideoEngine) -> np.ndarray:
    """Resize a frame as the model wants those of videos."""
    extent = (engine.framing.side, engine.framing.side)
    return np.asarray(Image.fromarray(image).resize(extent, Image.Resampling.BICUBIC))


def _clip(
    engine: TorchVideoEngine, frames: np.ndarray, boxes: np.ndarray, random: np.random.Generator
) -> Clip:
    """Follow the objects in boxes (P, 4) of the first frame with the float model."""
    last = len(frames) - 1
    between = 1 + random.permutation(last - 1)[: REMEMBERED - 1]
    remembered = [0, *sorted(int(place) for place in between)]
    session = Session(engine, ImageFrames(list(frames)))
    for number, box in enumerate(boxes):
        session.add_prompts(0, number, Prompts(boxes=box[None]))
    for place in remembered:
        for _ in session.propagate(place, most=0):
            pass
    memories = [followed.memory for followed in session.objects.values()]
    recalled = [memory.recall(last, len(frames), reverse=False) for memory in memories]
    outputs = [{**memory.followed, **memory.prompted} for memory in memories]
    cells = recalled[0].cells
    tokens = int((cells >= 0).sum())
    entries = {
        "points": np.zeros((1, len(boxes), 1, 2)),
        "labels": np.full((1, len(boxes), 1), -1),
        "memory_masks": np.array([[each[p].logits for p in remembered] for each in outputs]),
        "memory_scores": np.array([[each[p].score for p in remembered] for each in outputs]),
        "pointers": np.stack([each.values[tokens:] for each in recalled]),
        "memory_positions": recalled[0].positions,
        "memory_cells": cells,
    }
    pictures = frames[[last, *remembered]]
    return Clip(pictures, {name: _tensor(array, engine) for name, array in entries.items()})


def _tensor(array: np.ndarray, engine: TorchVideoEngine) -> Tensor:
    kind = np.int64 if array.dtype.kind == "i" else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, kind)).to(engine.device)

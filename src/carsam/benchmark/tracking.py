"""Objects that are followed through a clip of noise, with all the memory that they ever have."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from carsam.benchmark import inputs
from carsam.images.prompts import Prompts

FRAME = (480, 854)
"""Height and width of the frames, DAVIS's."""

FIRST = 16
"""The first frame that is timed: all memories and pointers that SAM 2 recalls come before it."""

FRAMES = 1000

Tracker = Iterator[None]
"""Each step follows all objects to one more frame, encoding it."""

Open = Callable[[Any, int, int | None], Tracker]
"""Takes an engine, objects, and frames to recall beside the prompted one, None for all."""


def session(engine: Any, objects: int, memory_frames: int | None) -> Tracker:
    """Follow objects with this package's session: from a frame's bytes to masks of its size.

    The memory that the prompted frame made stands for those of the frames behind it.
    """
    from carsam.video.session import Session, Settings

    followed = Session(engine, _Shifted(), Settings(memory_frames=memory_frames))
    for number, click in enumerate(_clicks(objects, engine.framing.side)):
        followed.add_prompts(0, number, Prompts(click[None, None], np.ones((1, 1), np.int64)))
    for _ in followed.propagate(0, 0):
        pass
    for memory in (each.memory for each in followed.objects.values()):
        between = range(1, FIRST)
        memory.followed |= dict.fromkeys(between, memory.prompted[0])
        memory.directions |= dict.fromkeys(between, False)
    for _ in followed.propagate(FIRST):
        yield


def transformers_session(engine: Any, objects: int, memory_frames: int | None) -> Tracker:
    """Follow objects with transformers' session: from pixels to masks of low resolution."""
    import torch
    from transformers import Sam2VideoInferenceSession

    assert memory_frames is None
    model, side = engine.module, engine.framing.side
    pixels = torch.from_numpy(inputs.pixels(side))
    followed = Sam2VideoInferenceSession(video_height=side, video_width=side, dtype=torch.float32)
    for number, click in enumerate(_clicks(objects, side)):
        labels = torch.ones(1, 1, 1, dtype=torch.int32)
        given = {"point_coords": torch.from_numpy(click)[None, None, None], "point_labels": labels}
        followed.add_point_inputs(followed.obj_id_to_idx(number), 0, given)
        followed.obj_with_new_inputs.append(number)
    with torch.inference_mode():
        model(followed, frame=pixels)
        for outputs in followed.output_dict_per_obj.values():
            first = outputs["cond_frame_outputs"][0]
            outputs["non_cond_frame_outputs"] |= dict.fromkeys(range(1, FIRST), first)
    for index in range(FIRST, FRAMES):
        with torch.inference_mode():
            model(followed, frame=pixels, frame_idx=index)
        yield


class _Shifted(Sequence[np.ndarray]):
    """Frames of a camera that moves over a picture, whose memory they share."""

    def __init__(self) -> None:
        self.size = FRAME
        self.names: Sequence[str] = [f"{index:05d}" for index in range(FRAMES)]
        height, width = FRAME
        shape = height, width + FRAMES, 3
        self._picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: Any) -> Any:
        return np.ascontiguousarray(self._picture[:, index : index + FRAME[1]])


def _clicks(count: int, side: int) -> np.ndarray:
    """Return (count, 2) float32 places in a square."""
    return np.random.default_rng(0).uniform(0, side, (count, 2)).astype(np.float32)

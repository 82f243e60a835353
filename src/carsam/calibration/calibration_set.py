"""The images that calibrate, as the states that the model's first stage takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from carsam.calibration.prompts import found_boxes
from carsam.engines.torch_engine import TorchEngine
from carsam.families.base import Family, State
from carsam.images.moved_boxes import moved_boxes
from carsam.images.preprocess import Frame, preprocess
from carsam.images.read import ImageSample
from carsam.progress import Progress


@dataclass(frozen=True)
class CalibrationSet:
    """The images that calibrate, and where their prompts come from.

    Args:
        sample: the images.
        boxes: annotated boxes (P, 4) by file name; None lets the float model find some.
        boxes_per_image: boxes of one image that are used; where there are fewer, moved copies of
            them are added, as the decoder learns little from few prompts.
        seed: chooses among more, and moves copies.
    """

    sample: ImageSample
    boxes: dict[str, np.ndarray] | None
    boxes_per_image: int
    seed: int

    def states(self, family: Family, engine: TorchEngine, progress: Progress) -> tuple[State, ...]:
        """Return the state of every image before the first stage."""
        progress.start("Reading images", len(self.sample))
        states = []
        for index, (name, image) in enumerate(zip(self.sample.names, self.sample, strict=True)):
            pixels, frame = preprocess(image, engine.framing)
            boxes = self._boxes(engine, name, image, frame, self.seed + index)
            states.append(
                family.start(
                    torch.from_numpy(pixels)[None].to(engine.device),
                    torch.from_numpy(boxes)[None].to(engine.device),
                )
            )
            progress.advance(note=name)
        progress.finish()
        return tuple(states)

    def mirrored(
        self, family: Family, engine: TorchEngine, states: Sequence[State]
    ) -> tuple[State, ...]:
        """Return the states, as `states` returns them, of the images' mirror images."""
        mirrored = []
        for image, state in zip(self.sample, states, strict=True):
            pixels, frame = preprocess(np.ascontiguousarray(image[:, ::-1]), engine.framing)
            boxes = state["boxes"].clone()  # (1, P, 4)
            boxes[..., [0, 2]] = frame.input_size[1] - boxes[..., [2, 0]]
            mirrored.append(family.start(torch.from_numpy(pixels)[None].to(engine.device), boxes))
        return tuple(mirrored)

    def _boxes(
        self, engine: TorchEngine, name: str, image: np.ndarray, frame: Frame, seed: int
    ) -> np.ndarray:
        random = np.random.default_rng(seed)
        if self.boxes is None:
            boxes = found_boxes(engine, image, self.boxes_per_image, seed)
        else:
            boxes = frame.map_boxes(self.boxes[name])
            boxes = boxes[random.permutation(len(boxes))[: self.boxes_per_image]]
        picture = np.array([0, 0, *frame.input_size[::-1]])
        more = moved_boxes(boxes, self.boxes_per_image - len(boxes), picture, random)
        return np.concatenate([boxes, more])

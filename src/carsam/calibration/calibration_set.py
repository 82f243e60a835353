"""The images that calibrate, as the states that the model's first stage takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.calibration.prompts import found_boxes
from carsam.calibration.state_lists import Part
from carsam.calibration.views import views_of
from carsam.engines.torch_engine import TorchEngine
from carsam.families.base import Family, State
from carsam.images.clicks import new_clicks
from carsam.images.moved_boxes import moved_boxes
from carsam.images.preprocess import Frame, Framing, normalise_and_pad, resize
from carsam.images.read import ImageSample
from carsam.progress import Progress


@dataclass(frozen=True)
class CalibrationSet:
    """The images that calibrate, and where their prompts come from.

    Args:
        sample: the images.
        boxes: annotated boxes (P, 4) by file name; None lets the float model find some.
        prompts_per_image: of one image. Those that are not clicks are boxes; where there are fewer,
            moved copies of them are added, as the decoder learns little from few prompts.
        clicks: share of them that are clicks, of which half lie on objects, half anywhere.
        seed: chooses among more, moves copies, and clicks.
    """

    sample: ImageSample
    boxes: dict[str, np.ndarray] | None
    prompts_per_image: int
    clicks: float
    seed: int

    def states(self, family: Family, engine: TorchEngine, progress: Progress) -> "Pictures":
        """Return the state of every image before the first stage."""
        progress.start("Reading images", len(self.sample))
        pictures, prompts = [], []
        for index, (name, image) in enumerate(zip(self.sample.names, self.sample, strict=True)):
            frame = Frame((image.shape[0], image.shape[1]), engine.framing)
            rows = self._prompts(engine, name, image, frame, self.seed + index)
            pictures.append(resize(image, engine.framing))
            prompts.append(torch.from_numpy(rows)[None].to(engine.device))
            progress.advance(note=name)
        progress.finish()
        return Pictures(family, engine.framing, tuple(pictures), tuple(prompts))

    def views(self, engine: TorchEngine, states: "Pictures") -> "Pictures":
        """Return the states, as `states` returns them, of other views of the images."""
        by_image = []
        for index, (image, own) in enumerate(zip(self.sample, states.prompts, strict=True)):
            frame = Frame((image.shape[0], image.shape[1]), engine.framing)
            rows = frame.unmap_boxes(own[0].cpu().numpy())
            by_image.append(views_of(image, rows, (self.seed, index)))
        pictures, prompts = [], []
        for image, rows in chain.from_iterable(zip(*by_image, strict=True)):
            frame = Frame((image.shape[0], image.shape[1]), engine.framing)
            pictures.append(resize(image, engine.framing))
            prompts.append(torch.from_numpy(frame.map_boxes(rows))[None].to(engine.device))
        return replace(states, pictures=tuple(pictures), prompts=tuple(prompts))

    def _prompts(
        self, engine: TorchEngine, name: str, image: np.ndarray, frame: Frame, seed: int
    ) -> np.ndarray:
        """Return the rows (P, 4) of an image, boxes first."""
        random = np.random.default_rng(seed)
        clicked = min(round(self.clicks * self.prompts_per_image), self.prompts_per_image - 1)
        boxed = self.prompts_per_image - clicked
        if self.boxes is None:
            boxes = found_boxes(engine, image, boxed, seed)
        else:
            boxes = frame.map_boxes(self.boxes[name])
            boxes = boxes[random.permutation(len(boxes))[:boxed]]
        picture = np.array([0, 0, *frame.input_size[::-1]])
        more = moved_boxes(boxes, boxed - len(boxes), picture, random)
        return np.concatenate([boxes, more, new_clicks(boxes, clicked, picture, random)])


@dataclass(frozen=True)
class Pictures(Sequence[State]):
    """The states of images before the first stage, made when they are asked for.

    Pixels are kept as they are after resizing, mostly bytes: as the numbers that the model takes
    they are four times as large.

    Args:
        framing: of the model.
        pictures: RGB (h, w, 3), resized.
        prompts: rows (1, P, 4) of each, on the device.
    """

    family: Family
    framing: Framing
    pictures: tuple[np.ndarray, ...]
    prompts: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Part(self, range(*index.indices(len(self))))
        pixels = torch.from_numpy(normalise_and_pad(self.pictures[index], self.framing))
        prompts = self.prompts[index].clone()  # a tensor that lives as long as the state
        return self.family.start(pixels[None].to(prompts.device), prompts)

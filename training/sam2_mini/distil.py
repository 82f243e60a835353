"""Part 1: the encoder learns the image embedding of sam-mini."""

from collections.abc import Iterator

import numpy as np
import torch
from canvas import CanvasSam
from pictures import Picture
from recipe import TrainingStage
from samples import picture_shares
from torch import Tensor, nn
from torch.nn import functional
from windows import CANVAS, cut_window

from carsam.families.mini import load_sam_mini
from sam2_mini.hiera import GRID, CanvasHiera
from sam2_mini.initial import initialise_

PATCH = 16


class Distillation:
    """A part of the training: windows of pictures, and how far the embeddings are from sam-mini's.

    The decoder of sam-mini, which the next part begins with, then finds what it is used to.
    """

    name = "distil"

    def __init__(self, model: nn.Module, stages: tuple[TrainingStage, ...], seed: int):
        self.stages = stages
        self.seed = seed
        self.modules = [model.vision_encoder]
        self.student = CanvasHiera(model.vision_encoder)
        self.teacher = CanvasSam(load_sam_mini())

    def initialise_(self) -> None:
        initialise_(self.modules[0])

    def read_(self, photographs: list[Picture], scenes: list[Picture]) -> None:
        self.pictures = photographs, scenes
        self.shares = picture_shares(photographs), picture_shares(scenes)

    def loss(self, step: int, stage: TrainingStage) -> tuple[Tensor, dict[str, float]]:
        """Squared error, relative to the teacher's variance, and one minus the cosine."""
        random = np.random.default_rng([self.seed, 1, step])
        image = torch.from_numpy(np.stack(list(self._windows(random, stage))))
        places = random.integers(0, (CANVAS - stage.window) // GRID + 1, 2)
        offset = tuple((GRID * places).tolist())
        with torch.no_grad():
            wanted = self.teacher.encode(image, (offset[0] // PATCH, offset[1] // PATCH)).float()
        found = self.student(image, offset)[0].float()
        spread = wanted.var((0, 2, 3)).mean()
        error = (found - wanted).square().mean() / spread
        cosine = functional.cosine_similarity(found, wanted, 1).mean()
        return error + 1 - cosine, {"unexplained": error.item(), "cosine": cosine.item()}

    def _windows(self, random: np.random.Generator, stage: TrainingStage) -> Iterator[np.ndarray]:
        for _ in range(stage.batch):
            kind = int(random.random() < stage.scene_share)
            pictures = self.pictures[kind]
            picture = pictures[random.choice(len(pictures), p=self.shares[kind])]
            yield cut_window(random, picture, self.pictures[0], stage).image.transpose(2, 0, 1)

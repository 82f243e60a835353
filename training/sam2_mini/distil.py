"""Part 1: the encoder learns the image embedding of sam-mini."""

from collections.abc import Iterator

import numpy as np
import torch
from recipe import TrainingRecipe, TrainingStage
from sam_mini.canvas import CanvasSam
from samples import picture_shares
from torch import Tensor, nn
from torch.nn import functional
from windows import CANVAS, cut_window

from carsam.families.mini import load_sam_mini
from sam2_mini.decoder import CELL
from sam2_mini.hiera import GRID, CanvasHiera
from sam2_mini.initial import initialise_encoder_
from sam2_mini.part import Pictures, part_of
from sam2_mini.rounded import Rounded


class Distillation:
    """Windows of pictures, and how far the embeddings are from sam-mini's (MobileSAM's way).

    The decoder of sam-mini, which the next part begins with, then finds what it is used to.
    """

    name, shares = "distil", 1

    def __init__(self, model: nn.Module, recipe: TrainingRecipe):
        self.recipe = recipe
        self.trained = part_of(model, ("vision_encoder",))
        self.student = Rounded(CanvasHiera(model.vision_encoder))
        self.teacher = CanvasSam(load_sam_mini(), self.student.dtype)

    def start_(self) -> None:
        initialise_encoder_(self.trained.vision_encoder)

    def read_(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.chances = [picture_shares(part) for part in pictures]

    def loss(self, step: int, share: int) -> tuple[Tensor, dict[str, float]]:
        """Squared error, relative to the teacher's variance, and one minus the cosine."""
        stage = self.recipe.stage(step)
        random = np.random.default_rng([self.recipe.seed, 1, step])
        image = torch.from_numpy(np.stack(list(self._windows(random, stage))))
        places = random.integers(0, (CANVAS - stage.window) // GRID + 1, 2)
        offset = tuple((GRID * places).tolist())
        with torch.no_grad():
            wanted = self.teacher.encode(image, (offset[0] // CELL, offset[1] // CELL)).float()
        found = self.student(image, offset)[0].float()
        spread = wanted.var((0, 2, 3)).mean()
        error = (found - wanted).square().mean() / spread
        cosine = functional.cosine_similarity(found, wanted, 1).mean()
        return error + 1 - cosine, {"unexplained": error.item(), "cosine": cosine.item()}

    def _windows(self, random: np.random.Generator, stage: TrainingStage) -> Iterator[np.ndarray]:
        for _ in range(stage.batch):
            kind = int(random.random() < stage.scene_share)
            pictures = self.pictures[kind]
            picture = pictures[random.choice(len(pictures), p=self.chances[kind])]
            window = cut_window(random, picture, self.pictures.photographs, stage)
            yield window.image.transpose(2, 0, 1)

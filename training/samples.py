"""Batches of windows with prompts and targets; the same for the same step and seed."""

import numpy as np
import torch
from pictures import Picture
from PIL import Image
from recipe import TrainingRecipe, TrainingStage
from torch.utils.data import Dataset
from windows import CANVAS, Window, cut_window

PATCH = 16
LOW_RESOLUTION = 4  # pixels of the input per pixel of the predicted masks
CLOSE_UP = 40  # points per side of the grid on which an object is looked at closely


class StepBatches(Dataset):
    """Item `step` is the batch of that step, as a dictionary of tensors:

    image: uint8, batch x 3 x window x window
    offset: int64, 2; row and column, in tokens, of the windows on the model's canvas, multiples
        of `grid`
    boxes: float32, batch x boxes x 4, in pixels of the window
    points: float32, batch x clicks x 1 x 2, x and y in pixels of the window
    masks: float32, batch x prompts x window/4 x window/4, covered shares; boxes, then clicks
    close_up_boxes: float32, batch x prompts x 4, pixels of the window
    close_ups: float32, batch x prompts x 40 x 40, the masks inside those boxes
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        photographs: list[Picture],
        scenes: list[Picture],
        grid: int = 1,
    ):
        self.recipe = recipe
        self.grid = grid
        self.photographs = photographs
        self.photograph_shares = picture_shares(photographs)
        self.scenes = scenes
        self.scene_shares = picture_shares(scenes)

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        random = np.random.default_rng([self.recipe.seed, step])
        stage = self.recipe.stage(step)
        samples = []
        for _ in range(stage.batch):
            window = self._window(random, stage)
            samples.append(_sample(random, window, stage))
        batch = {
            name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
            for name in samples[0]
        }
        places = (CANVAS - stage.window) // (PATCH * self.grid) + 1
        batch["offset"] = torch.from_numpy(self.grid * random.integers(0, places, 2))
        return batch

    def _window(self, random: np.random.Generator, stage: TrainingStage) -> Window:
        pictures, shares = self.photographs, self.photograph_shares
        if random.random() < stage.scene_share:
            pictures, shares = self.scenes, self.scene_shares
        picture = pictures[random.choice(len(pictures), p=shares)]
        return cut_window(random, picture, self.photographs, stage)


def picture_shares(pictures: list[Picture]) -> np.ndarray:
    """How often each picture is cut from: twice as often with four objects as with one."""
    weights = np.sqrt([len(picture.objects) for picture in pictures])
    return weights / weights.sum()


def _sample(
    random: np.random.Generator, window: Window, stage: TrainingStage
) -> dict[str, np.ndarray]:
    """Prompts and targets for one window."""
    count = len(window.masks)
    order = np.concatenate([random.permutation(count) for _ in range(-(-stage.prompts // count))])
    order = order[: stage.prompts]
    chosen, exact = window.masks[order], window.boxes[order]  # P x S x S and P x 4
    size = stage.window
    inexact = stage.inexact_boxes
    boxes = np.stack([_jittered(random, box, size, inexact) for box in exact[: stage.boxes]])
    points = np.stack([_click(random, mask) for mask in chosen[stage.boxes :]])[:, None]
    close_up_boxes = np.stack([_surroundings(random, box, size) for box in exact])
    masks = np.stack([Image.fromarray(mask).reduce(LOW_RESOLUTION) for mask in chosen])
    close_ups = [
        Image.fromarray(mask).resize((CLOSE_UP, CLOSE_UP), Image.BILINEAR, tuple(map(float, box)))
        for mask, box in zip(chosen, close_up_boxes, strict=True)
    ]
    return {
        "image": np.ascontiguousarray(window.image.transpose(2, 0, 1)),
        "boxes": boxes.astype(np.float32),
        "points": points.astype(np.float32),
        "masks": masks.astype(np.float32) / 255,
        "close_up_boxes": close_up_boxes.astype(np.float32),
        "close_ups": np.stack([np.asarray(image) for image in close_ups]).astype(np.float32) / 255,
    }


def _jittered(
    random: np.random.Generator, box: np.ndarray, size: int, inexact: float
) -> np.ndarray:
    """The box as a detector might give it; with probability 1 - inexact within a pixel."""
    sides = np.tile(box[2:] - box[:2], 2)
    spread = np.minimum(0.08 * random.random() * sides, 8.0) if random.random() < inexact else 0.15
    return np.clip(box + random.normal(0, 1, 4) * spread, 0, size)


def _surroundings(random: np.random.Generator, box: np.ndarray, size: int) -> np.ndarray:
    """The box with some of what lies around it, at least 8 pixels wide and high."""
    sides = np.maximum(np.tile(box[2:] - box[:2], 2), 8)
    grown = box + np.array([-1, -1, 1, 1]) * random.uniform(0.08, 0.3, 4) * sides
    return np.clip(grown, 0, size)


def _click(random: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """A pixel (x, y) of the mask, S x S: half of the time anywhere, otherwise nearer its middle."""
    rows, columns = np.nonzero(mask >= 128)
    tries = random.integers(len(rows), size=1 if random.random() < 0.5 else 8)
    distance = (rows[tries] - rows.mean()) ** 2 + (columns[tries] - columns.mean()) ** 2
    index = tries[np.argmin(distance)]
    return np.array([columns[index], rows[index]], np.float64)

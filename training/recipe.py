"""What a recipe says: what is trained on, for how many steps, at what size."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingStage:
    """A run of optimizer steps with one kind of batch.

    Attributes:
        steps: number of optimizer steps.
        window: height and width in pixels of the part of the 768 x 768 canvas that is trained on.
        batch: windows per step.
        prompts: prompts per window, of which `boxes` are boxes and the others single clicks.
        boxes: box prompts per window.
        scene_share: share of windows cut from procedural scenes, the others come from photographs.
        paste_probability: share of windows onto which objects of other photographs are pasted.
        zoom: limits of the random scale, relative to "longest side 768 pixels".
        correction_probability: share of steps with a second round (corrective click, mask prompt).
        learning_rates: at the stage's first and last step; linear between them.
        inexact_boxes: share of box prompts that are off by more than a pixel.
        turned: share of windows that are turned by up to 20 degrees.
        stretch: largest ratio of the scales along the two sides.
        squashed: pictures are squashed into the square, as SAM 2 does; SAM keeps their shape.
    """

    steps: int
    window: int
    batch: int
    prompts: int
    boxes: int
    scene_share: float
    paste_probability: float
    zoom: tuple[float, float]
    correction_probability: float
    learning_rates: tuple[float, float]
    inexact_boxes: float = 0.5
    turned: float = 0.0
    stretch: float = 1.0
    squashed: bool = False


@dataclass(frozen=True)
class TrainingRecipe:
    """Stages in order, and the settings that they share.

    Attributes:
        rate_of_others: learning rate of embeddings, norms and convolutions, relative to that of
            the matrices.
        newton_schulz_steps: of Muon, for every gradient of a matrix, in bfloat16: most of the time
            on processors that do not multiply it.
        warm_up: steps over which the learning rate rises.
        average_decay: of the moving average of the weights, which is what is exported.
        waves: the Fourier features' longest and shortest wave, in pixels of the canvas.
    """

    stages: tuple[TrainingStage, ...]
    seed: int = 0
    scenes: int = 320
    rate_of_others: float = 0.3
    newton_schulz_steps: int = 5
    warm_up: int = 100
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    average_decay: float = 0.99
    waves: tuple[float, float] = (1024.0, 16.0)

    @property
    def steps(self) -> int:
        """Number of optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> TrainingStage:
        """The stage that step, counted from 0, belongs to."""
        return self._find(step)[0]

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, with a linear warm-up over the first `warm_up` steps."""
        stage, done = self._find(step)
        start, end = stage.learning_rates
        return (start + (end - start) * done / stage.steps) * min(1.0, (step + 1) / self.warm_up)

    def _find(self, step: int) -> tuple[TrainingStage, int]:
        """The stage of a step and how many steps of that stage lie before it."""
        done = step
        for stage in self.stages:
            if done < stage.steps:
                return stage, done
            done -= stage.steps
        raise ValueError(
            f"step {step} is not one of the recipe's {self.steps} steps, counted from 0"
        )

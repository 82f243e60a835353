"""The recipe: what is trained on, for how many steps, at what size."""

from dataclasses import replace

from recipe import TrainingRecipe, TrainingStage

SHARED = {
    "scene_share": 0.05,
    "paste_probability": 0.3,
    "zoom": (0.6, 1.8),
    "turned": 0.2,
    "stretch": 1.4,
    "inexact_boxes": 0.2,
    "squashed": True,
}
WHOLE = {"zoom": (0.85, 1.2), "turned": 0.0, "stretch": 1.2}
"""Of stages on the whole canvas, as at inference."""


def _stage(steps: int, window: int, batch: int, rates: tuple[float, float], **changes):
    settings = SHARED | {"prompts": 1, "boxes": 1, "correction_probability": 0.0} | changes
    return TrainingStage(steps, window, batch, learning_rates=rates, **settings)


DISTIL = TrainingRecipe(
    stages=(
        _stage(3600, 384, 4, (3e-3, 1e-3)),
        _stage(360, 768, 4, (1e-3, 0.0), **WHOLE),
    )
)
MASKS = TrainingRecipe(
    stages=(
        _stage(1800, 384, 4, (1e-3, 5e-4), prompts=8, boxes=6, correction_probability=0.1),
        _stage(300, 768, 2, (5e-4, 0.0), prompts=12, boxes=10, correction_probability=0.1, **WHOLE),
    )
)

MEMORY = TrainingRecipe(
    stages=(
        _stage(262, 384, 3, (1.5e-3, 1.35328e-3)),
        _stage(500, 384, 3, (1.35328e-3, 9.2103e-4)),
        _stage(130, 384, 3, (6e-4, 3e-4)),
        _stage(200, 384, 2, (3e-4, 0.0)),
    )
)
"""Of these stages only steps, window, batch (objects in each of two shares) and rates count."""

WHOLE_MEMORY = TrainingRecipe(stages=(_stage(40, 768, 1, (3e-4, 0.0)),))

TOGETHER = TrainingRecipe(
    stages=(
        _stage(240, 384, 3, (6e-4, 0.0)),
        _stage(500, 384, 3, (8e-4, 4e-4)),
        _stage(300, 384, 3, (4e-4, 0.0)),
    )
)
TOGETHER_IMAGES = TrainingRecipe(
    stages=tuple(
        replace(MASKS.stages[kind], steps=stage.steps, learning_rates=stage.learning_rates)
        for kind, stage in zip((0, 0, 1), TOGETHER.stages, strict=True)
    )
)
"""Part 5: the windows, at last the canvases, of part 2, with the steps and rates of `TOGETHER`."""

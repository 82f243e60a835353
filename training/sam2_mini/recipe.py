"""The recipe: what is trained on, for how many steps, at what size."""

from dataclasses import dataclass

from recipe import TrainingStage


def views(steps: int, window: int, batch: int, rates: tuple[float, float], **changes) -> TrainingStage:
    """Squashed pictures, moved and recoloured; the settings that the parts below share."""
    settings = {
        "prompts": 1,
        "boxes": 1,
        "scene_share": 0.05,
        "paste_probability": 0.3,
        "zoom": (0.6, 1.8),
        "turned": 0.2,
        "stretch": 1.4,
        "correction_probability": 0.0,
        "squashed": True,
    }
    return TrainingStage(steps, window, batch, learning_rates=rates, **(settings | changes))


@dataclass(frozen=True)
class Recipe:
    """The parts in order, and the settings that they share.

    Attributes:
        distil: the encoder learns sam-mini's embeddings.
        scenes: number of procedural scenes beside the photographs.
        rate_of_others: learning rate of what is not a matrix, relative to that of the matrices.
        warm_up: steps over which the rate rises, at the start of a part.
        average_decay: of the moving average of the weights, with which the next part begins.
    """

    distil: tuple[TrainingStage, ...] = (
        views(4500, 384, 4, (3e-3, 1e-3)),
        views(500, 768, 4, (1e-3, 0.0), zoom=(0.85, 1.2), turned=0.0, stretch=1.2),
    )
    seed: int = 0
    scenes: int = 320
    rate_of_others: float = 0.3
    warm_up: int = 100
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    average_decay: float = 0.99


SAM2_MINI = Recipe()

"""The training of sam2-mini in small.

As a program it trains the memory, and begins with the packaged weights:

python small_training.py DATA RUN
"""

import dataclasses
import sys
from pathlib import Path


def small_parts(model, out, steps=1):
    """The parts of the training with windows of 192 pixels and few steps."""
    from sam2_mini.train import all_parts

    parts = all_parts(model, out)
    *_, together = parts
    for part in (*parts[:-1], together.tracking, together.images):
        shrink_(part, steps)
    together.recipe = together.tracking.recipe
    return parts


def shrink_(part, steps):
    from sam2_mini.tracking import Clips

    stage = dataclasses.replace(
        part.recipe.stages[0],
        steps=steps,
        window=192,
        batch=1,
        prompts=3,
        boxes=2,
        correction_probability=1.0,
    )
    part.recipe = dataclasses.replace(part.recipe, stages=(stage,), scenes=2, newton_schulz_steps=1)
    part.clips = Clips(16, 3, (3,), 0)


def new_model():
    from transformers import Sam2VideoModel

    from carsam.families.sam2_mini import sam2_mini_config

    return Sam2VideoModel._from_config(sam2_mini_config(), attn_implementation="eager").train()


if __name__ == "__main__":
    from sam2_mini.begin import begin
    from sam2_mini.export import PACKAGED
    from sam2_mini.train import train

    data, run = (Path(argument) for argument in sys.argv[1:])
    begin(PACKAGED, run, "masks")
    model = new_model()
    train(model, small_parts(model, run, steps=2)[:3], data, run)

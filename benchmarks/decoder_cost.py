"""What MAC and JCAR cost on the decoder of SAM-B at full size: seconds per step, peak memory.

    python benchmarks/decoder_cost.py [--threads 2] [--images 32] [--boxes 8] [--steps 3]

The recipe `carsam` (compensation, grids, reconstruction of joint cross-attention units) runs on the
whole two-way transformer at W4A4, with the activations of 32 images and 8 boxes each. The encoder
does not run: the image embeddings (256 x 64 x 64) are random numbers of variance 1 smoothed over 3
x 3 tokens, as large as an encoder's, and so are the weights; cost does not depend on them. A few
steps per unit are trained; the json has the seconds of every unit's training step and of everything
else, and what 300 and 20000 steps per unit add up to. CPU seconds are given beside wall-clock
seconds, for machines that do other work too.

With --project, only the projection that `carsam quantize` prints is made, for whole models
(encoders included) of SAM-B and SAM-L, from one image of 8 boxes counted as 32.

The numbers go to benchmarks/results/decoder_cost.json.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from provenance import provenance
from random_runs import random_model

from carsam.calibration.course import plan_course
from carsam.calibration.loop import quantize_units_
from carsam.calibration.projection import project
from carsam.families.base import Site, Stage, State
from carsam.families.sam.family import SamFamily
from carsam.methods.registry import make_recipe
from carsam.methods.steps.training.reconstruct import Reconstruct
from carsam.progress import make_progress
from carsam.simulation.model import prepare
from carsam.system import peak_memory
from carsam.threads import set_threads

RESULT = Path(__file__).parent / "results" / "decoder_cost.json"
PROJECTED = ("sam-vit-base", "sam-vit-large")
LIMIT_GB = 8
BUDGETS = (300, 20000)


class Decoder(SamFamily):
    """SAM without its encoder: states begin with the image embedding."""

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return the sites after the encoder."""
        return tuple(s for s in super().sites(model) if not s.path.startswith("vision_encoder"))

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return the stages after the encoder."""
        return tuple(s for s in super().stages(model) if not s.path.startswith("vision_encoder"))


def states(images: int, boxes: int) -> Iterator[State]:
    """Yield random image embeddings and boxes."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(images):
        noise = torch.randn(1, 256, 66, 66, generator=generator)
        corners = 512 * torch.rand(1, boxes, 2, generator=generator)
        sides = 50 + 400 * torch.rand(1, boxes, 2, generator=generator)
        yield {
            "hidden": 3 * F.avg_pool2d(noise, 3, 1),
            "prompts": torch.cat([corners, corners + sides], 2),
        }


@dataclasses.dataclass
class TrainingTimer:
    """Times the training loop of every run of the reconstruction step."""

    units: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def install_(self) -> None:
        """Wrap the step's training loop."""
        train = Reconstruct._train_

        def timed(step: Reconstruct, unit: Any, *arguments: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            losses = train(step, unit, *arguments)
            self.units.append(
                {
                    "unit": unit.plan.name.replace("mask_decoder.transformer.", ""),
                    "seconds_per_step": round((time.perf_counter() - wall) / step.steps, 3),
                    "cpu_seconds_per_step": round((time.process_time() - cpu) / step.steps, 3),
                }
            )
            return losses

        Reconstruct._train_ = timed  # type: ignore[method-assign]


def run_decoder(images: int, boxes: int, steps: int, memory: float) -> dict[str, Any]:
    """Take the decoder through the recipe and return what it cost."""
    family = Decoder()
    model = prepare(family, random_model("sam-vit-base"))
    recipe = make_recipe("carsam", "w4a4", settings=(f"reconstruct.steps={steps}",))
    timer = TrainingTimer()
    timer.install_()
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.no_grad():
        quantize_units_(
            family,
            model,
            recipe,
            tuple(states(images, boxes)),
            0,
            memory=memory,
            log=None,
            projects=False,
            progress=make_progress("plain"),
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    step_cpu = sum(unit["cpu_seconds_per_step"] for unit in timer.units)
    step_wall = sum(unit["seconds_per_step"] for unit in timer.units)
    other = wall - steps * step_wall
    return {
        "images": images,
        "boxes": boxes,
        "steps": steps,
        "memory_budget_gb": memory,
        "peak_gb": round(peak_memory() / 1e9, 2),
        "limit_gb": LIMIT_GB,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "units": timer.units,
        "seconds_besides_training": round(other, 1),
        "cpu_seconds_besides_training": round(cpu - steps * step_cpu, 1),
        "projected_minutes": {n: round((other + n * step_wall) / 60, 1) for n in BUDGETS},
        "projected_cpu_minutes": {
            n: round((cpu + (n - steps) * step_cpu) / 60, 1) for n in BUDGETS
        },
    }


def run_projection(name: str, images: int, boxes: int, budget: str) -> dict[str, Any]:
    """Project a whole model, encoder included."""
    family = SamFamily()
    model = prepare(family, random_model(name))
    settings = ("reconstruct.encoder_share=0.1",)
    recipe = make_recipe("carsam", "w4a4", settings=settings, budget=budget)
    box = next(states(1, boxes))["prompts"]
    start = family.start(torch.randn(1, 3, 1024, 1024), box)
    found = project(plan_course(family, model, recipe), [start] * images)
    return {
        "model": name,
        "budget": budget,
        "images": images,
        "boxes": boxes,
        "projected_minutes": round(found.seconds / 60, 1),
        "probe_seconds": round(found.probe_seconds, 1),
        "peak_gb_of_probe": round(peak_memory() / 1e9, 2),
        "units": [dataclasses.asdict(unit) for unit in found.units],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--boxes", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--memory", type=float, default=2.0, help="GB of activations in memory")
    parser.add_argument("--project", choices=PROJECTED, help="project this model instead")
    parser.add_argument("--budget", choices=("fast", "paper"), default="fast")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    made = {**provenance("torch", "transformers", "numpy"), "threads": arguments.threads}
    if arguments.project:
        name = f"projection {arguments.project} {arguments.budget}"
        cost = run_projection(
            arguments.project, arguments.images, arguments.boxes, arguments.budget
        )
    else:
        name = "decoder"
        cost = run_decoder(arguments.images, arguments.boxes, arguments.steps, arguments.memory)
    result[name] = {**made, **cost}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(cost, indent=1))


if __name__ == "__main__":
    main()

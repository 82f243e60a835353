"""Train sam2-mini, from the folder `training`:

    python -m sam2_mini.train --data DIR --out RUN

Started again with the same RUN it goes on. It saves every ten minutes, and when it is told to end.
"""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any

import torch
from pictures import read_coco, read_photographs
from state import Average
from torch import nn
from transformers import Sam2VideoModel

from carsam.families.sam2_mini import sam2_mini_config
from carsam.images.scenes import write_scenes
from sam2_mini.checkpoint import load_state_, save_state, steps_done
from sam2_mini.distil import Distillation
from sam2_mini.recipe import SAM2_MINI, Recipe

SAVE_EVERY = 600.0  # seconds
LOG_EVERY = 25


class Stop:
    """Becomes true when the process is asked to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True


def train(data: Path, out: Path, recipe: Recipe = SAM2_MINI) -> None:
    """Run the recipe, or what is left of it.

    Args:
        data: folder with `coco` and `extra`, see README.md.
        out: folder of this run; gets a state for every part, `log.jsonl` and the scenes.
        recipe: parts and settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    model = Sam2VideoModel(sam2_mini_config()).train()
    stop, pictures = Stop(), None
    for part in (Distillation(model, recipe.distil, recipe.seed),):
        steps = sum(stage.steps for stage in part.stages)
        state = out / f"{part.name}.safetensors"
        modules = nn.ModuleList(part.modules)
        average = Average(modules, recipe.average_decay)
        if steps_done(state) < steps:
            pictures = pictures or (read_photographs(data), _scenes(out, recipe))
            part.read_(*pictures)
            _run(part, modules, average, state, recipe, stop)
        if stop.asked:
            return
        load_average_(state, modules)


def _run(part, modules: nn.Module, average: Average, state: Path, recipe: Recipe, stop: Stop):
    """Do the steps of a part that are not done yet."""
    part.initialise_()
    average = Average(modules, recipe.average_decay)
    optimizers = make_optimizers(modules, recipe)
    first = load_state_(state, modules, average, optimizers) if state.exists() else 0
    steps = sum(stage.steps for stage in part.stages)
    parameters = [p for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]]
    saved = time.monotonic()
    with (state.parent / "log.jsonl").open("a") as file:
        log = Log(file, part.name)
        for step in range(first, steps):
            torch.manual_seed(recipe.seed + step)
            stage, rate = stage_and_rate(part.stages, step, recipe.warm_up)
            loss, watched = part.loss(step, stage)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, recipe.gradient_norm)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["rate_factor"]
                optimizer.step()
                optimizer.zero_grad()
            average.update_(modules, step)
            log.add(step + 1, {"loss": loss.item(), "norm": norm.item(), **watched})
            if stop.asked or step + 1 == steps or time.monotonic() - saved > SAVE_EVERY:
                save_state(state, step + 1, modules, average, optimizers)
                saved = time.monotonic()
            if stop.asked:
                return


class Log:
    """A line of means for every `LOG_EVERY` steps."""

    def __init__(self, file, part: str):
        self.file, self.part = file, part
        self.values: dict[str, list[float]] = {}
        self.started, self.processor = time.monotonic(), time.process_time()

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)
        if step % LOG_EVERY == 0:
            line = {"part": self.part, "step": step}
            line["seconds"] = round(time.monotonic() - self.started, 1)
            line["processor_seconds"] = round(time.process_time() - self.processor, 1)
            line |= {name: round(sum(v) / len(v), 4) for name, v in self.values.items()}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            self.values = {}


def stage_and_rate(stages, step: int, warm_up: int):
    """The stage of a step, counted from 0, and its learning rate."""
    done = step
    for stage in stages:
        if done < stage.steps:
            start, end = stage.learning_rates
            rate = start + (end - start) * done / stage.steps
            return stage, rate * min(1.0, (step + 1) / warm_up)
        done -= stage.steps
    raise ValueError(f"step {step} is beyond the last stage")


def make_optimizers(modules: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the rest."""
    matrices = [module.weight for module in modules.modules() if isinstance(module, nn.Linear)]
    matrices = [matrix for matrix in matrices if matrix.requires_grad]
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in modules.parameters() if p.requires_grad and id(p) not in chosen]
    return [
        torch.optim.Muon(
            [{"params": matrices, "rate_factor": 1.0}],
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [{"params": others, "rate_factor": recipe.rate_of_others}],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        ),
    ]


def load_average_(state: Path, modules: nn.Module) -> None:
    """Set the parameters to the average of a finished part."""
    from state import averaged_weights

    found = averaged_weights(state)
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.copy_(found[name])


def _scenes(out: Path, recipe: Recipe) -> list:
    """The procedural scenes, drawn once."""
    path = out / "scenes" / "instances.json"
    if not path.exists():
        write_scenes(out / "scenes", recipe.scenes, recipe.seed)
    return read_coco(path, out / "scenes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    train(arguments.data, arguments.out)


if __name__ == "__main__":
    main()

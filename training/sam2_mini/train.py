"""Train sam2-mini, from the folder `training`:

    python -m sam2_mini.train --data DIR --out RUN
    torchrun --nproc-per-node 2 -m sam2_mini.train --data DIR --out RUN    # two cores

Started again with the same RUN it goes on. It saves every ten minutes, and when it is told to end.
"""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from pictures import read_photographs, read_scenes
from state import Average, averaged_weights, load_state_, save_state, steps_done
from torch import nn
from transformers import Sam2VideoModel

from carsam.families.sam2_mini import sam2_mini_config
from sam2_mini.distil import Distillation
from sam2_mini.masks import MaskTraining
from sam2_mini.part import Part, Pictures
from sam2_mini.processes import Processes
from sam2_mini.recipe import (
    DISTIL,
    MASKS,
    MEMORY,
    TOGETHER,
    TOGETHER_IMAGES,
    WHOLE_MEMORY,
)
from sam2_mini.together import Together
from sam2_mini.tracking import Clips, Tracking

SAVE_EVERY = 600.0  # seconds
LOG_EVERY = 25  # steps


class Stop:
    """Becomes true when the process is asked to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True


class Log:
    """A line of means for every `LOG_EVERY` steps, of the shares of the first process."""

    def __init__(self, file: TextIO | None, part: str):
        self.file, self.part = file, part
        self.values: dict[str, list[float]] = {}
        self.started, self.processor = time.monotonic(), time.process_time()

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def write(self, step: int) -> None:
        if self.file and step % LOG_EVERY == 0:
            line = {"part": self.part, "step": step}
            line["seconds"] = round(time.monotonic() - self.started, 1)
            line["processor_seconds"] = round(time.process_time() - self.processor, 1)
            line |= {name: round(sum(v) / len(v), 4) for name, v in self.values.items()}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            self.values = {}


def all_parts(model: Sam2VideoModel, out: Path) -> list[Part]:
    """The parts of the training in order."""
    return [
        Distillation(model, DISTIL),
        MaskTraining(model, MASKS),
        Tracking("memory", model, MEMORY, Clips(1000, 8, (4, 4, 4, 8), 500), out / "clips"),
        Tracking("canvas", model, WHOLE_MEMORY, Clips(80, 6, (4,), 0), out / "canvas_clips"),
        Together(
            Tracking("together", model, TOGETHER, Clips(1000, 8, (4, 4, 4), 0), out / "clips"),
            MaskTraining(model, TOGETHER_IMAGES),
        ),
    ]


def train(model: Sam2VideoModel, parts: list[Part], data: Path, out: Path) -> None:
    """Do all steps that are not done yet.

    Args:
        model: gets the averaged weights of every part that is finished.
        parts: of this model.
        data: folder with `coco` and `extra`, see README.md.
        out: folder of this run; gets a state for every part, `log.jsonl` and the scenes.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    stop, pictures, processes = Stop(), None, Processes()
    for part in parts:
        state = out / f"{part.name}.safetensors"
        torch.manual_seed(part.recipe.seed)
        part.start_()
        if steps_done(state) < part.recipe.steps:
            if pictures is None:
                with processes.first_alone():
                    pictures = Pictures(
                        read_photographs(data),
                        read_scenes(out / "scenes", part.recipe.scenes, part.recipe.seed),
                    )
            part.read_(pictures)
            _run(part, state, stop, processes)
        if stop.asked:
            return
        load_averaged_(model, state)


def load_averaged_(model: nn.Module, state: Path) -> None:
    """Set the parameters that a part trained to their average."""
    with torch.no_grad():
        for name, tensor in averaged_weights(state).items():
            model.get_parameter(name).copy_(tensor)


def make_optimizers(part: Part) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the rest."""
    matrices = [module.weight for module in part.trained.modules() if isinstance(module, nn.Linear)]
    chosen = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in part.trained.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(
            [{"params": matrices, "rate_factor": 1.0}],
            weight_decay=part.recipe.weight_decay,
            ns_steps=part.recipe.newton_schulz_steps,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [{"params": others, "rate_factor": part.recipe.rate_of_others}],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        ),
    ]


def _run(part: Part, state: Path, stop: Stop, processes: Processes) -> None:
    """Do the steps of a part that are not done yet, or those until the process is to end."""
    trained, recipe = part.trained, part.recipe
    average = Average(trained, recipe.average_decay)
    optimizers = make_optimizers(part)
    first = load_state_(state, trained, average, optimizers) if state.exists() else 0
    saved = time.monotonic()
    with (state.parent / "log.jsonl").open("a") as file:
        log = Log(file if processes.number == 0 else None, part.name)
        for step in range(first, recipe.steps):
            torch.manual_seed(recipe.seed + step)
            for share in processes.own(part.shares):
                loss, watched = part.loss(step, share)
                (loss / part.shares).backward()
                log.add({"loss": loss.item(), **watched})
            stop.asked = processes.add_up_(trained, stop.asked)
            norm = nn.utils.clip_grad_norm_(trained.parameters(), recipe.gradient_norm)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate(step) * group["rate_factor"]
                optimizer.step()
                optimizer.zero_grad()
            average.update_(trained, step)
            log.add({"norm": norm.item()})
            log.write(step + 1)
            last = stop.asked or step + 1 == recipe.steps
            due = last or time.monotonic() - saved > SAVE_EVERY
            if due and processes.number == 0:
                save_state(state, step + 1, trained, average, optimizers, rounded=True)
                saved = time.monotonic()
            if last:
                break
    processes.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = Sam2VideoModel._from_config(sam2_mini_config(), attn_implementation="eager").train()
    train(model, all_parts(model, arguments.out), arguments.data, arguments.out)


if __name__ == "__main__":
    main()

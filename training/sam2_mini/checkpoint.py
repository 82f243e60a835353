"""The state of a part of the training: weights, their average, the optimizers' moments.

What is large is rounded: moments to bfloat16, the average to float16, in which it is exported.
Weights that this part does not train are not in it.
"""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from state import MOMENTS, Average
from torch import Tensor, nn
from torch.optim import Optimizer


def save_state(
    path: Path, step: int, modules: nn.Module, average: Average, optimizers: list[Optimizer]
) -> None:
    """Write everything that the next step needs; the file appears whole or not at all."""
    states = {p: s for optimizer in optimizers for p, s in optimizer.state.items()}
    tensors: dict[str, Tensor] = {}
    for name, parameter in modules.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        tensors[f"average.{name}"] = average.parameters[name].half()
        for moment in set(MOMENTS) & set(states.get(parameter, {})):
            tensors[f"{moment}.{name}"] = states[parameter][moment].bfloat16()
    unfinished = path.with_suffix(".unfinished")
    save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished, {"step": str(step)})
    os.replace(unfinished, path)


def load_state_(
    path: Path, modules: nn.Module, average: Average, optimizers: list[Optimizer]
) -> int:
    """Continue from a file of `save_state`; returns the number of steps already done."""
    tensors = load_file(path)
    names = {parameter: name for name, parameter in modules.named_parameters()}
    step = steps_done(path)
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[f"model.{name}"])
            average.parameters[name].copy_(tensors[f"average.{name}"])
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            found = {m: tensors.get(f"{m}.{names[parameter]}") for m in MOMENTS}
            moments = {m: tensor.float() for m, tensor in found.items() if tensor is not None}
            if moments:
                optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step


def steps_done(path: Path) -> int:
    """The number of steps done; 0 if there is no such file."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])

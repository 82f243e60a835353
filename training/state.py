"""The state of a training: weights, their average and the optimizers' moments, one safetensors."""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


class Average:
    """An exponential moving average of a model's parameters."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.parameters = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update_(self, model: nn.Module, step: int) -> None:
        """Take in the parameters after a step; early steps are forgotten faster."""
        decay = min(self.decay, (step + 1) / (step + 10))
        current = [parameter.detach() for parameter in model.parameters()]
        torch._foreach_lerp_(list(self.parameters.values()), current, 1 - decay)


def save_state(
    path: Path,
    step: int,
    model: nn.Module,
    average: Average,
    optimizers: list[Optimizer],
    rounded: bool = False,
) -> None:
    """Write everything that the next step needs; the file appears whole or not at all.

    Args:
        rounded: the average is written in float16, in which it is exported, and moments in
            bfloat16. The file is half as large, and what is resumed differs by the rounding.
    """
    states = {
        parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()
    }
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        kept = average.parameters[name]
        tensors[f"average.{name}"] = kept.half() if rounded else kept
        for moment in set(MOMENTS) & set(states.get(parameter, {})):
            kept = states[parameter][moment]
            tensors[f"{moment}.{name}"] = kept.bfloat16() if rounded else kept
    unfinished = path.with_suffix(".unfinished")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        unfinished,
        {"step": str(step)},
    )
    os.replace(unfinished, path)


def load_state_(path: Path, model: nn.Module, average: Average, optimizers: list[Optimizer]) -> int:
    """Continue from a file of `save_state`; returns the number of steps already done."""
    step = steps_done(path)
    tensors = load_file(path)
    names = {parameter: name for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[f"model.{name}"])
            average.parameters[name].copy_(tensors[f"average.{name}"])
    for optimizer in optimizers:
        for parameter in (
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ):
            found = {moment: tensors.get(f"{moment}.{names[parameter]}") for moment in MOMENTS}
            moments = {
                moment: tensor.to(parameter.device, torch.float32)
                for moment, tensor in found.items()
                if tensor is not None
            }
            if moments:
                optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step


def steps_done(path: Path) -> int:
    """The number of steps after which a file was written; 0 if there is none."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def averaged_weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights, by parameter name, of a file of `save_state`."""
    with safe_open(path, "pt") as file:
        return {
            name.removeprefix("average."): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 - not a dictionary
            if name.startswith("average.")
        }

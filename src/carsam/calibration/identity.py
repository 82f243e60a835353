"""Everything that decides what a quantization makes, so that no other one takes over its units."""

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from carsam.calibration.calibration_set import CalibrationSet
from carsam.engines.torch_engine import TorchEngine
from carsam.families.base import State
from carsam.formats.checkpoint import Checkpoint
from carsam.methods.recipe import Recipe
from carsam.methods.registry import make_steps, make_whole_model_steps
from carsam.runtime import kernels
from carsam.simulation.products import prefers_bfloat16


def identity_of(
    engine: TorchEngine,
    recipe: Recipe,
    calibration: CalibrationSet,
    states: Sequence[State],
) -> dict[str, Any]:
    """Return JSON values; two quantizations in which they are equal make the same bits.

    Args:
        engine: runs the prepared model, float still.
        states: of `calibration`: the pixels and prompts themselves.
    """
    opening, closing = make_whole_model_steps(recipe)
    steps = (*opening, *make_steps(recipe), *closing)
    data = recipe.to_dict()
    return {
        "model": _model_fingerprint(engine),
        **{key: data[key] for key in ("name", "bits", "rules", "units")},
        "steps": [[type(step).__name__, asdict(step)] for step in steps],  # type: ignore[call-overload]
        "seed": calibration.seed,
        "images": _digest(states, lambda name: name != "prompts"),
        "prompts": _digest(states, lambda name: name == "prompts"),
        "prompts_per_image": calibration.prompts_per_image,
        "clicks": calibration.clicks,
        "device": engine.device.type,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "versions": versions(),
    }


def _processor() -> str:
    """Name what decides the order of sums, and the type of gradients."""
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    fast = ", bfloat16" if prefers_bfloat16() else ""
    compiled = "" if kernels.training is None else ", compiled kernels"
    return f"{kind}{fast}{compiled}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of what computes."""
    packages = ("carsam", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _model_fingerprint(engine: TorchEngine) -> str:
    config = engine.module.config.to_dict()
    manifest = {"family": engine.family.name, "model_config": config, "sites": {}}
    tensors = {name: t.cpu().numpy() for name, t in engine.module.state_dict().items()}
    return Checkpoint(manifest, tensors).fingerprint


def _digest(states: Sequence[State], wanted: Callable[[str], bool]) -> str:
    """Return a hash of the entries of the states whose names are wanted."""
    digest = hashlib.sha256()
    for state in states:
        for name in filter(wanted, sorted(state)):
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().data)
    return digest.hexdigest()

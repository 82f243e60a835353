"""What makes a SAM hard to quantize, measured in float: ranges, peaks, kurtosis, attention."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.diagnosis.damage import Case
from carsam.engines.torch_engine import TorchEngine
from carsam.families.base import Family, Role, SiteType
from carsam.methods.steps.folding.bimodal_integration import BimodalIntegration, count_peaks

ROWS = 400
"""Tokens of an image that count for kurtosis."""

VISIBLE = 0.01
"""Probabilities above it are counted, as PTQ4SAM does."""


def statistics(family: Family, model: Any, cases: Sequence[Case]) -> dict[str, Any]:
    """Return the numbers of one model over images with boxes.

    Per token-to-image attention: ranges of keys and queries, `peaks` of the keys by PTQ4SAM's rule,
    `outlier` (largest over median absolute key), `offsets` (how far the keys' means move from
    prompt to prompt, over their standard deviation, root mean square over channels). Share of
    probabilities above `VISIBLE`, and kurtosis of the inputs of the encoder's linears and of the
    decoder's MLPs: least, median and largest over layers.
    """
    inputs: dict[str, list[Tensor]] = defaultdict(list)
    outputs: dict[str, list[Tensor]] = defaultdict(list)
    engine = TorchEngine(family, model, "float")
    kept = _layers(family, model)
    with _watched(model, kept, inputs, outputs):
        for case in cases:
            engine.decode(engine.encode(case.pixels), case.prompts, False)
    found: dict[str, Any] = {"attentions": {}, "visible": {}, "kurtosis": {}}
    for stage in family.stages(model):
        if stage.role in (Role.TOKEN_TO_IMAGE, Role.IMAGE_TO_TOKEN):
            query, key = (outputs[f"{stage.path}.{name}_proj"] for name in "qk")
            heads = model.get_submodule(stage.path).num_attention_heads
            visible = _visible(query, key, heads)
            found["visible"].setdefault(stage.role.value, []).append(visible)
            if stage.role is Role.TOKEN_TO_IMAGE:
                found["attentions"][stage.path] = _ranges(query, key)
    groups: dict[str, list[float]] = defaultdict(list)
    for path, kind in kept.items():
        if kind:
            groups[kind].append(_kurtosis(torch.cat(inputs[path])))
    found["kurtosis"] = {
        kind: [min(values), float(np.median(values)), max(values)]
        for kind, values in groups.items()
    }
    return found


def _layers(family: Family, model: Any) -> dict[str, str]:
    """Return the paths of the layers to watch, each with its group for kurtosis, or ''."""
    layers = {}
    for site in family.sites(model):
        part, _, last = site.path.rpartition(".")
        if site.kind.startswith("encoder.") and site.kind != "encoder.patch_embedding":
            if site.type is not SiteType.ATTENTION:
                layers[site.path] = f"neck.{last}" if site.type is SiteType.CONV else last
        elif last == "lin2":
            layers[site.path] = "decoder lin2"
        elif last in ("q_proj", "k_proj") and "self_attn" not in part:
            layers[site.path] = ""
    return layers


@contextmanager
def _watched(
    model: Any,
    layers: dict[str, str],
    inputs: dict[str, list[Tensor]],
    outputs: dict[str, list[Tensor]],
) -> Iterator[None]:
    random = torch.Generator().manual_seed(0)

    def watcher(path: str, kind: str) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        def watch(module: Any, given: tuple[Tensor, ...], made: Tensor) -> None:
            if not kind:
                outputs[path].append(made.detach().clone())
                return
            values = given[0].detach()
            values = values.movedim(1, -1) if made.ndim == 4 and "neck" in kind else values
            rows = values.flatten(0, -2)
            inputs[path].append(rows[torch.randperm(len(rows), generator=random)[:ROWS]].clone())

        return watch

    handles = [
        model.get_submodule(path).register_forward_hook(watcher(path, kind))
        for path, kind in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ranges(query: Sequence[Tensor], key: Sequence[Tensor]) -> dict[str, Any]:
    keys = [part.flatten(0, -3) for part in key]  # (P, tokens, channels) of each image
    means = torch.cat([part.mean(1) for part in keys])
    within = torch.cat([part.var(1) for part in keys]).mean(0)
    all_keys = torch.cat([part.flatten() for part in key]).abs()
    rule = BimodalIntegration()
    return {
        "keys": [min(float(p.min()) for p in key), max(float(p.max()) for p in key)],
        "queries": [min(float(p.min()) for p in query), max(float(p.max()) for p in query)],
        "peaks": count_peaks(keys[0][0], rule.points, rule.height, rule.distance),
        "outlier": float(all_keys.max() / all_keys[:: max(1, len(all_keys) // 10**6)].median()),
        "offsets": float((means.var(0) / within).mean().sqrt()),
    }


def _visible(query: Sequence[Tensor], key: Sequence[Tensor], heads: int) -> float:
    """Return the share of probabilities above `VISIBLE`."""
    seen = total = 0
    for q, k in zip(query, key, strict=True):
        q, k = (part.flatten(0, -3).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        seen += int((scores.softmax(-1) > VISIBLE).sum())
        total += scores.numel()
    return seen / total


def _kurtosis(values: Tensor) -> float:
    """Return the kurtosis of all elements; 3 for a normal distribution."""
    centred = values.double() - values.double().mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)

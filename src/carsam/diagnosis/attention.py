"""Attention dissipation: what the decoder's tokens look at, in float and quantized."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.diagnosis.damage import Case
from carsam.engines.torch_engine import TorchEngine
from carsam.families.base import Family, SiteType
from carsam.methods.inspecting.operands import Consumer, Listener, replaced
from carsam.simulation import slots
from carsam.simulation.model import QuantizedModel


@dataclass(frozen=True)
class Focus:
    """How one token-to-image attention looks at the image, averaged over prompts, heads, tokens.

    Args:
        path: of the attention.
        entropy: of the attention over image tokens, in nats; higher is more spread out.
        inside: share of the attention that falls inside the object's mask.
        empty: share of the rows in which rounding leaves nothing; the other numbers are without
            them.
    """

    path: str
    entropy: float
    inside: float
    empty: float


def focus_before_and_after(
    reference: Any, quantized: QuantizedModel, cases: Sequence[Case]
) -> tuple[tuple[Focus, ...], tuple[Focus, ...]]:
    """Return the focus of every token-to-image attention in float and quantized, over all cases.

    Args:
        reference: the prepared float model, whose masks tell what is inside.
        quantized: the model quantized from it, on the same device.
        cases: images with boxes.
    """
    device = next(reference.parameters()).device
    engine = TorchEngine(quantized.family, reference, "float", device)
    side = reference.prompt_encoder.image_embedding_size
    gathered: tuple[list[list[Focus]], list[list[Focus]]] = ([], [])
    for case in cases:
        logits, _ = engine.decode(engine.encode(case.pixels), case.prompts, multimask_output=False)
        shares = token_shares(logits[:, 0], side)
        for module, into in zip((reference, quantized.module), gathered, strict=True):
            into.append(focus(attention_maps(quantized.family, module, case), shares))
    return _averaged(gathered[0]), _averaged(gathered[1])


def attention_maps(family: Family, module: Any, case: Case) -> dict[str, np.ndarray]:
    """Return the attention (P, tokens, h, w), averaged over heads, of every cross-attention.

    Only attentions of few tokens to the whole image are returned; rows of quantized attention are
    divided by their sum, which is not exactly 1.
    """
    side = module.prompt_encoder.image_embedding_size
    engine = TorchEngine(family, module, "simulated", next(module.parameters()).device)
    with _recorded(family, module) as maps:
        engine.decode(engine.encode(case.pixels), case.prompts, multimask_output=False)
    found = {}
    for path, probabilities in maps.items():
        if probabilities.shape[-1] == side[0] * side[1] > probabilities.shape[-2]:
            rows = probabilities / probabilities.sum(-1, keepdim=True).clamp(min=1e-12)
            heads = rows.mean(1)  # (P, tokens, h * w)
            found[path] = heads.unflatten(-1, side).numpy()
    return found


def focus(maps: dict[str, np.ndarray], masks: np.ndarray) -> list[Focus]:
    """Measure attention maps against object masks.

    Args:
        maps: of `attention_maps`.
        masks: (P, h, w) share of each image token that the object covers.
    """
    measured = []
    for path, attention in maps.items():
        filled = attention.sum((-2, -1))  # (P, tokens): share of the heads
        left = filled > 0
        rows = attention[left] / filled[left][:, None, None]
        objects = np.broadcast_to(masks[:, None], attention.shape)[left]
        measured.append(
            Focus(
                path,
                float((-rows * np.log(np.maximum(rows, 1e-12))).sum((-2, -1)).mean()),
                float((rows * objects).sum((-2, -1)).mean()),
                float(1 - filled.mean()),
            )
            if left.any()
            else Focus(path, 0.0, 0.0, 1.0)
        )
    return measured


def token_shares(logits: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """Return the share of each image token that masks cover: logits (P, 4h, 4w) to (P, h, w)."""
    covered = (logits > 0).astype(np.float32)
    return covered.reshape(len(logits), side[0], 4, side[1], 4).mean((2, 4))


def _averaged(images: Sequence[Sequence[Focus]]) -> tuple[Focus, ...]:
    return tuple(
        Focus(same[0].path, *np.mean([astuple(one)[1:] for one in same], axis=0).tolist())
        for same in zip(*images, strict=True)
    )


@contextmanager
def _recorded(family: Family, module: Any) -> Iterator[dict[str, Tensor]]:
    """Record the probabilities of the decoder's attentions as they enter the value product."""
    maps: dict[str, Tensor] = {}

    def recorder(path: str) -> Consumer:
        def record(probabilities: Tensor) -> None:
            maps[path] = probabilities.detach().float().cpu()

        return record

    taps = {
        (site, "probabilities"): Listener(
            slots.quantizer(module, site, "probabilities"), recorder(site.path)
        )
        for site in family.sites(module)
        if site.type is SiteType.ATTENTION and site.kind.startswith("decoder.")
    }
    with replaced(module, taps), torch.no_grad():
        yield maps

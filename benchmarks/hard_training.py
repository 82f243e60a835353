"""A hard model that no invariance of attention undoes: a few keys are outliers, and means move.

A linear map of a head's queries and its inverse of the keys, or a constant taken from all keys,
mends what is wrong with channels. Here it is tokens and prompts: the keys' projection gets two
parts of rank one that are large on few tokens, or move with the prompt, and stays as it is, while
all else of the decoder is trained for some minutes to give sam-mini's masks again."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carsam.diagnosis.damage import Case
from carsam.families.base import Family, Role
from carsam.formats.files import whole_file

STEPS = 400
SAVED_EVERY = 50
RATE = 3e-4
CLICKS = 2
"""Of every image, anywhere in it, beside its boxes."""

LOGITS = 12.0
"""Logits beyond it need not be told apart."""

MOST = 20.0
"""What the sparse part adds to the key that it changes most: its norm in every head."""

MOVED = 0.3
"""Deviation within a prompt of the part that moves with it, relative to the keys' own."""

SEARCH_STEPS, STARTS = 60, 6
THINNED = 7
"""The search for a sparse direction reads every so many-th token. No row of tokens has a length
that it divides, or whole columns would be left out."""


@dataclass(frozen=True)
class Answered:
    """A case with its embedding, and what the model before the edit answers."""

    embedding: tuple[Tensor, ...]
    boxes: Tensor
    clicks: Tensor
    masks: tuple[Tensor, Tensor]
    ious: tuple[Tensor, Tensor]


def outlier_keys(
    family: Family, model: Any, cases: Sequence[Case], seed: int, unfinished: Path
) -> Any:
    """Return a copy of a model with outlier keys, trained to answer as the model does.

    Args:
        cases: images with boxes to train on.
        seed: drives everything random.
        unfinished: file that keeps a training under way, to go on after a stop.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        answered = [_answer(family, model, case, seed + place) for place, case in enumerate(cases)]
        edited = copy.deepcopy(model)
        for stage in family.stages(edited):
            if stage.role is Role.TOKEN_TO_IMAGE:
                attention = edited.get_submodule(stage.path)
                _edit_(attention, *_seen(family, model, stage.path, answered))
    _train_(family, edited, answered, seed, unfinished)
    return edited.eval()


def _edit_(attention: Any, inputs: Sequence[Tensor], queries: Sequence[Tensor]) -> None:
    """Add both parts to the keys of an attention, given what `_seen` returns."""
    rows = torch.cat(inputs).double()
    own = float(attention.k_proj(torch.cat(inputs)).std())
    heads = attention.num_attention_heads
    towards = torch.cat(queries).mean(0).unflatten(0, (heads, -1))
    away = -(towards / towards.norm(dim=1, keepdim=True)).flatten()  # what no query looks for
    sparse = sparsest(rows[::THINNED])
    values = (rows - rows.mean(0)) @ sparse
    sparse = sparse * MOST / values[values.abs().argmax()]  # positive where it is large
    moving = most_moving([part.double() for part in inputs])
    moving = moving * MOVED * own  # has the deviation 1 within a prompt
    signs = torch.where(torch.rand(len(away)) < 0.5, -1.0, 1.0)
    for channels, tokens in ((away, sparse), (signs, moving)):
        attention.k_proj.weight += torch.outer(channels, tokens.float())
        attention.k_proj.bias -= channels * float(rows.mean(0) @ tokens)


def sparsest(rows: Tensor) -> Tensor:
    """Return the direction (C,) of largest kurtosis of rows (N, C), of deviation 1 along it.

    FastICA's fixed point iteration on whitened rows, from several starts.
    """
    centred = rows - rows.mean(0)
    white, back = _whitened(centred)
    best: tuple[float, Tensor] | None = None
    for start in torch.eye(white.shape[1], dtype=white.dtype)[-STARTS:]:
        direction = start
        for _ in range(SEARCH_STEPS):
            values = white @ direction
            direction = white.T @ values**3 / len(white) - 3 * direction
            direction = direction / direction.norm()
        kurtosis = float(((white @ direction) ** 4).mean())
        if best is None or kurtosis > best[0]:
            best = kurtosis, direction
    assert best is not None
    return back @ best[1]


def most_moving(parts: Sequence[Tensor]) -> Tensor:
    """Return the direction whose means differ most between parts (n, C), of deviation 1 within."""
    within = torch.cat([part - part.mean(0) for part in parts])
    _, back = _whitened(within)
    means = torch.stack([part.mean(0) for part in parts])
    _, vectors = torch.linalg.eigh(torch.cov((means @ back).T))
    return back @ vectors[:, -1]


def _whitened(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of covariance 1, without directions that hardly vary, and the map to them."""
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    kept = values > 1e-4 * values[-1]
    back = vectors[:, kept] / values[kept].sqrt()
    return centred @ back, back


def _seen(
    family: Family, model: Any, path: str, answered: Sequence[Answered]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return what enters the keys' projection (tokens, C), and the queries, of each first box."""
    attention = model.get_submodule(path)
    keys: list[Tensor] = []
    queries: list[Tensor] = []
    handles = [
        attention.k_proj.register_forward_pre_hook(lambda _, given: keys.append(given[0][0, 0])),
        attention.q_proj.register_forward_hook(lambda _, __, made: queries.append(made[0, 0])),
    ]
    for one in answered:
        family.decode(model, one.embedding, False, input_boxes=one.boxes[:, :1])
    for handle in handles:
        handle.remove()
    return keys, queries


def _answer(family: Family, model: Any, case: Case, seed: int) -> Answered:
    random = np.random.default_rng(seed)
    embedding = family.encode(model, torch.from_numpy(case.pixels)[None])
    assert case.prompts.boxes is not None
    boxes = torch.from_numpy(case.prompts.boxes)[None]
    side = case.pixels.shape[-1]
    clicks = torch.from_numpy(random.uniform(0, side, (1, CLICKS, 1, 2)).astype(np.float32))
    masks, ious = zip(*_decode(family, model, embedding, boxes, clicks), strict=True)
    return Answered(embedding, boxes, clicks, masks, ious)


def _decode(
    family: Family, model: Any, embedding: tuple[Tensor, ...], boxes: Tensor, clicks: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    yield family.decode(model, embedding, False, input_boxes=boxes)
    labels = torch.ones(clicks.shape[:3], dtype=torch.int64)
    yield family.decode(model, embedding, True, input_points=clicks, input_labels=labels)


def _train_(
    family: Family, model: Any, answered: Sequence[Answered], seed: int, unfinished: Path
) -> None:
    """Train what `_edit_` has left trainable in the decoder; go on where `unfinished` is."""
    model.requires_grad_(False)
    decoder = model.mask_decoder
    fixed = {
        id(parameter)
        for stage in family.stages(model)
        if stage.role is Role.TOKEN_TO_IMAGE
        for parameter in model.get_submodule(stage.path).k_proj.parameters()
    }
    trained = [p for p in decoder.parameters() if id(p) not in fixed]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, RATE)
    begun = _restore_(unfinished, decoder, optimizer)
    for step in range(begun, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        one = answered[int(np.random.default_rng((seed, step)).integers(len(answered)))]
        loss = _loss(family, model, one)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % SAVED_EVERY == 0:
            print(f"outlier keys: step {step + 1} of {STEPS}, loss {loss.item():.5f}", flush=True)
            state = {"step": step + 1, "decoder": decoder.state_dict()}
            with whole_file(unfinished, "Make room.") as file:
                torch.save({**state, "optimizer": optimizer.state_dict()}, file)


def _restore_(unfinished: Path, decoder: Any, optimizer: torch.optim.Optimizer) -> int:
    if not unfinished.exists():
        return 0
    state = torch.load(unfinished, weights_only=True)
    decoder.load_state_dict(state["decoder"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _loss(family: Family, model: Any, one: Answered) -> Tensor:
    """Return the error of logits, relative to their mean square, and that of predicted IoUs."""
    loss = torch.zeros(())
    found = _decode(family, model, one.embedding, one.boxes, one.clicks)
    for (masks, ious), wanted, wanted_ious in zip(found, one.masks, one.ious, strict=True):
        near = wanted.clamp(-LOGITS, LOGITS)
        error = (masks.clamp(-LOGITS, LOGITS) - near).square().mean() / near.square().mean()
        loss = loss + error + (ious - wanted_ious).square().mean()
    return loss

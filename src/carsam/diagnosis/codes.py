"""The codes that enter every product, in the simulation and in the native engine, side by side.

Of a codebook these are the entries.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from carsam.engines.base import Engine
from carsam.engines.torch_video_engine import torch_engine
from carsam.families.base import Site, SiteType
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.images.prompts import Prompts
from carsam.runtime import kernels, strips
from carsam.runtime.geometry import TokenMap
from carsam.runtime.two_way import PROMPTS_AT_ONCE
from carsam.simulation import slots
from carsam.simulation.model import QuantizedModel

OPERANDS = ("query", "key", "value")
"""Operands of attention whose codes the native engine keeps; it never holds all probabilities."""


@dataclass(frozen=True)
class CodeAgreement:
    """How the codes of one operand agree.

    Args:
        site: path of the site.
        codes: how many were compared.
        differing: how many differ.
        furthest: the largest difference.
    """

    site: str
    operand: str
    codes: int
    differing: int
    furthest: int


def compare_codes(
    model: QuantizedModel, native_engine: Engine, pixels: np.ndarray, prompts: Prompts
) -> list[CodeAgreement]:
    """Run one image and its prompts through both engines and compare codes site by site.

    Args:
        model: with integer products at each site that has grids.
        native_engine: of the model's checkpoint.
        pixels: (3, S, S) float32.
        prompts: at most `PROMPTS_AT_ONCE`, which the native engine decodes together.

    Raises:
        ValueError: more prompts, or a site whose codes are not multiplied as integers.
    """
    if len(prompts) > PROMPTS_AT_ONCE:
        raise ValueError(f"{len(prompts)} prompts; at most {PROMPTS_AT_ONCE} can be compared.")
    of_images = [site for site in model.sites if not site.kind.startswith("memory")]

    def run(engine: Engine) -> None:
        engine.decode(engine.encode(pixels), prompts, multimask_output=False)

    return compare_codes_of(model, native_engine, of_images, run)


def compare_codes_of(
    model: QuantizedModel, native_engine: Engine, sites: Sequence[Site], run: Callable[[Any], None]
) -> list[CodeAgreement]:
    """Run something on both engines and compare the codes of sites; see `compare_codes`.

    Args:
        sites: all that `run` executes, in this order, each once.
    """
    sites = [site for site in sites if _is_quantized(model, site)]
    with _simulated_codes(model, sites) as simulated:
        run(torch_engine(model.family, model.module, "simulated"))
    with _native_codes() as native:
        run(native_engine)
    tokens = {
        site.path: call["tokens"]
        for site, call in zip(sites, native, strict=True)
        if site.type is SiteType.ATTENTION
    }
    return [
        _agreement(
            site, operand, *_aligned(model, site, operand, call, simulated[site.path], tokens)
        )
        for site, call in zip(sites, native, strict=True)
        for operand in _operands(site)
    ]


def _operands(site: Site) -> tuple[str, ...]:
    return OPERANDS if site.type is SiteType.ATTENTION else ("input",)


@torch.no_grad()
def _is_quantized(model: QuantizedModel, site: Site) -> bool:
    if not any(
        isinstance(slots.quantizer(model.module, site, operand), Grid)
        for operand in slots.operands(site)
    ):
        return False
    if not slots.multiplier(model.module, site).multiplies_integers():
        raise ValueError(f"{site.path} does not multiply integers.")
    for operand in _operands(site):
        grid = slots.quantizer(model.module, site, operand)
        if not isinstance(grid, UniformGrid | CodebookGrid):
            raise ValueError(f"{site.path} {operand}: codes of {grid.name} grids are not compared.")
    return True


@contextmanager
def _simulated_codes(
    model: QuantizedModel, sites: list[Site]
) -> Iterator[dict[str, dict[str, np.ndarray]]]:
    """Collect the codes by site and operand: (..., C), or (groups, heads, tokens, d)."""
    found: dict[str, dict[str, np.ndarray]] = {}

    def watch(site: Site) -> Callable:
        def keep(_: Any, operands: tuple[Any, ...]) -> None:
            codes = found[site.path] = {}
            for name, values in zip(_operands(site), operands, strict=False):
                grid = cast(UniformGrid | CodebookGrid, slots.quantizer(model.module, site, name))
                codes[name] = (grid.steps(values) + grid.zero_point).numpy()

        return keep

    modules = {site: slots.multiplier(model.module, site) for site in sites}
    hooks = [module.register_forward_pre_hook(watch(site)) for site, module in modules.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _native_codes() -> Iterator[list[dict[str, Any]]]:
    """Collect the operands of every integer operator in the order of execution.

    Meanwhile images are not worked on in strips, so that every operator runs once.
    """
    calls: list[dict[str, Any]] = []
    names = ("linear", "linear_norm_on_grids", "depthwise", "attention")
    originals = {name: getattr(kernels, name) for name in names}

    def watched(operator: Callable) -> Callable:
        def call(tensor: Any, *arguments: Any) -> Any:
            calls.append({"input": np.array(tensor.array)})
            return operator(tensor, *arguments)

        return call

    def watched_attention(
        query: Any, key: Any, value: Any, tokens: TokenMap, *arguments: Any
    ) -> np.ndarray:
        operands = zip(OPERANDS, (query, key, value), strict=True)
        calls.append({name: np.array(codes.array) for name, codes in operands})
        calls[-1]["tokens"] = tokens
        return cast(np.ndarray, originals["attention"](query, key, value, tokens, *arguments))

    for name, operator in originals.items():
        setattr(kernels, name, watched_attention if name == "attention" else watched(operator))
    at_once, strips.TOKENS_AT_ONCE = strips.TOKENS_AT_ONCE, 1 << 30
    try:
        yield calls
    finally:
        for name, operator in originals.items():
            setattr(kernels, name, operator)
        strips.TOKENS_AT_ONCE = at_once


def _aligned(
    model: QuantizedModel,
    site: Site,
    operand: str,
    native: dict[str, Any],
    simulated: dict[str, np.ndarray],
    tokens: dict[str, TokenMap],
) -> tuple[np.ndarray, np.ndarray]:
    """Return both engines' codes of an operand in the same order."""
    found, expected = native[operand], simulated[operand]
    parent = site.path.rpartition(".")[0]
    if site.type is SiteType.ATTENTION:
        rows = tokens[site.path].query_rows if operand == "query" else tokens[site.path].key_rows
        expected = np.moveaxis(expected, 1, 2)  # (groups, tokens, heads, d)
        return _picked(found, rows, expected.reshape(-1, found.shape[1]))
    if site.type is SiteType.CONV:
        expected = np.moveaxis(expected, 1, -1)  # channels last
        if found.ndim == 2:
            found = _image_of(found, slots.layer(model.module, site).layer, expected.shape)
        found = found.reshape(-1, expected.shape[-1])
    expected = expected.reshape(-1, found.shape[1])
    if site.path.startswith("vision_encoder.") and parent in tokens:  # windows of tokens
        around = tokens[parent]  # queries, which come out of the attention, may be pooled
        rows = around.key_rows if site.path.endswith(".qkv") else around.query_rows
        return _picked(found, np.where(rows < len(found), rows, -1), expected)
    return _repeated(found, expected)


def _image_of(rows: np.ndarray, layer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Put together an image (1, H, W, C) of the squares that a convolution multiplies."""
    (side, _), (step, _), (margin, _) = layer.kernel_size, layer.stride, layer.padding
    inner = slice(margin, margin + step)  # of each square, which neighbours have in their margins
    squares = rows.reshape(shape[1] // step, shape[2] // step, side, side, shape[3])
    return squares[:, :, inner, inner].swapaxes(1, 2).reshape(shape)


def _picked(
    found: np.ndarray, rows: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put native codes into the order of the simulation's tokens, without the skipped ones."""
    used = rows.ravel() >= 0
    return _repeated(found[rows.ravel()[used]], expected if used.all() else expected[used])


def _repeated(found: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeat what one engine makes once for all prompts."""
    length = max(len(found), len(expected))
    found, expected = (np.tile(codes, (length // len(codes), 1)) for codes in (found, expected))
    return found, expected


def _agreement(site: Site, operand: str, found: np.ndarray, expected: np.ndarray) -> CodeAgreement:
    difference = np.abs(found.astype(np.int32) - expected.astype(np.int32))
    return CodeAgreement(
        site.path,
        operand,
        difference.size,
        int((difference > 0).sum()),
        int(difference.max(initial=0)),
    )

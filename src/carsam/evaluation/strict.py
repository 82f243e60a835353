"""Strict evaluation: prove that a quantized model multiplies nothing but codes of its grids.

Released code of this field left half of the inputs in float at evaluation and most weights
unrounded. Here the recipe says what must be quantized, not the model; the operands are caught where
they are multiplied, not where a quantizer claims to have been, and their distinct values are
counted, whatever a grid says of itself.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from carsam.engines.torch_engine import TorchEngine
from carsam.engines.torch_video_engine import TorchVideoEngine, torch_engine
from carsam.errors import UserError
from carsam.families.base import Site
from carsam.grids.base import Grid
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import ImageSource, read_image
from carsam.methods.recipe import Recipe
from carsam.simulation import slots
from carsam.simulation.expected import Expected, is_float, mismatches
from carsam.simulation.layers import weight_to_rows
from carsam.simulation.model import QuantizedModel
from carsam.video.frames import ImageFrames
from carsam.video.session import Session

PRODUCTS = {F.linear, F.conv2d, F.conv_transpose2d, torch.conv2d, torch.conv_transpose2d}
"""Multiplications of an input (first operand) by a layer's weight."""


class StrictError(AssertionError):
    """A quantized model computes with values that are not on its grids."""


def assert_strict(
    model: QuantizedModel, images: Iterable[ImageSource], recipe: Recipe | None = None
) -> None:
    """Check a quantized model on some images.

    1. Exactly the operands and weights that the recipe quantizes have grids, of its bits.
    2. Every quantized weight channel has at most 2**bits distinct values, all on its grid.
    3. Every quantized activation, as it enters a multiplication, has at most 2**bits distinct
       values in every call, all on its grid (per group of channels, where groups of the channels
       have grids of their own).
    4. Running twice gives identical bits.

    Args:
        model: as `quantize` or `from_checkpoint` return it.
        images: at least one.
        recipe: says what must be quantized, with how many bits; the one that the model's
            provenance names unless given.

    Raises:
        StrictError: naming the site, the operand and what was found.
        UserError: there is no image, or neither argument nor provenance names a recipe.
    """
    _check_grids(model, recipe)
    _check_weights(model)
    engine = torch_engine(model.family, model.module, "simulated")
    grids = _activation_grids(model)
    ran = False
    for image in images:
        picture = read_image(image)
        with _Watcher(model, grids) as watcher:
            first = _run(engine, picture)
        missed = set(grids) - watcher.seen
        if missed:
            raise StrictError(f"Never multiplied: {_listed(missed)}.")
        if not all(map(np.array_equal, first, _run(engine, picture))):
            raise StrictError("Two runs on the same image differ; something random is still on.")
        ran = True
    if not ran:
        raise UserError("No image to check with; give at least one.")


def _run(engine: TorchEngine, picture: np.ndarray) -> list[np.ndarray]:
    """Encode, decode two boxes, and feed the first mask back, so that every part is used.

    With a memory, follow an object from a box and one from a mask to a second frame as well.
    """
    pixels, frame = preprocess(picture, engine.framing)
    height, width = frame.input_size
    embedding = engine.encode(pixels)
    boxes = np.array([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]])
    boxes = boxes.astype(np.float32)
    masks, ious = engine.decode(embedding, Prompts(boxes=boxes), multimask_output=False)
    again = Prompts(boxes=boxes[:1], masks=masks[:1, 0])
    refined, _ = engine.decode(embedding, again, multimask_output=False)
    followed = _follow(engine, picture, boxes[1]) if isinstance(engine, TorchVideoEngine) else []
    return [*embedding, masks, ious, refined, *followed]


def _follow(engine: TorchVideoEngine, picture: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """Return the logits of two objects in two frames, the second one moved."""
    height, width = picture.shape[:2]
    moved = np.roll(picture, (height // 16, width // 16), axis=(0, 1))
    session = Session(engine, ImageFrames([picture, moved]))
    session.add_prompts(0, 1, Prompts(boxes=box[None]))
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2, width // 4 : width // 2] = True
    session.add_mask(0, 2, mask)
    return [logits for _, logits in session.propagate()]


Key = tuple[str, str]


def _check_grids(model: QuantizedModel, recipe: Recipe | None) -> None:
    expected = model.expected if recipe is None else Expected.of(recipe.to_dict())
    if expected is None:
        raise UserError(
            "The model's provenance names no recipe, so nothing says which bits it should have. "
            "Give the recipe to assert_strict."
        )
    found = list(mismatches(model.module, model.sites, expected))
    if found:
        others = f" ({len(found) - 1} more are not as it says)" if found[1:] else ""
        raise StrictError(f"{found[0]}{others}.")
    if expected.legacy:
        raise StrictError(f"Recipe {expected.name} leaves the published faults in the model.")
    if is_float(model.module, model.sites):
        raise StrictError("Nothing is quantized, as the recipe says; there is nothing to prove.")


def _activation_grids(model: QuantizedModel) -> dict[Key, Grid]:
    return {
        (site.path, operand): filling
        for site in model.sites
        for operand, filling in slots.fillings(model.module, site).items()
        if operand in slots.operands(site) and isinstance(filling, Grid)
    }


def _check_weights(model: QuantizedModel) -> None:
    for site in model.sites:
        grid = slots.fillings(model.module, site).get("weight")
        if not isinstance(grid, Grid):
            continue
        layer = slots.layer(model.module, site).layer
        rows = weight_to_rows(layer, layer.weight)
        off_grid = int((grid(rows) != rows).any(1).sum())
        if off_grid:
            raise StrictError(f"{site.path}: {off_grid} weight channels are off their grid.")
        ordered = rows.sort(dim=1).values
        distinct = int((ordered.diff(dim=1) != 0).sum(1).max()) + 1
        if distinct > 2**grid.bits:
            raise StrictError(f"{site.path}: a weight channel has {distinct} distinct values.")


class _Watcher(TorchFunctionMode):
    """Looks at the operands of every multiplication made inside a quantized site."""

    def __init__(self, model: QuantizedModel, grids: Mapping[Key, Grid]) -> None:
        super().__init__()
        self.seen: set[Key] = set()
        self._model, self._grids = model, grids
        self._site: Site | None = None
        self._integers = False
        self._attention_products = 0
        self._hooks: list[Any] = []

    def __enter__(self) -> "_Watcher":
        watched = {path for path, _ in self._grids}
        for site in (site for site in self._model.sites if site.path in watched):
            module = slots.multiplier(self._model.module, site)
            self._hooks.append(module.register_forward_pre_hook(self._entering(site)))
            self._hooks.append(module.register_forward_hook(self._leaving))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(
        self, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Check the operands of `func` if a site makes this call, then make it."""
        if self._site is not None:
            path = self._site.path
            if func in PRODUCTS:
                self._check((path, "input"), args[0])
            elif func is torch.matmul:
                # Score and value products alternate, also when heads come in pieces.
                first = self._attention_products % 2 == 0
                names = ("query", "key") if first else ("probabilities", "value")
                for name, operand in zip(names, args[:2], strict=True):
                    self._check((path, name), operand)
                self._attention_products += 1
        return func(*args, **(kwargs or {}))

    def _entering(self, site: Site) -> Callable:
        def enter(module: Any, *_: Any) -> None:
            self._site, self._attention_products = site, 0
            self._integers = module.multiplies_integers()

        return enter

    def _leaving(self, *_: Any) -> None:
        self._site = None

    def _check(self, key: Key, operand: Tensor) -> None:
        grid = self._grids.get(key)
        if grid is None:
            return
        self.seen.add(key)
        with torch._C.DisableTorchFunction():
            check = grid.check_integers if self._integers else grid.check
            distinct, on_grid = check(operand)
        if distinct > 2**grid.bits or not on_grid:
            raise StrictError(
                f"{key[0]}: {key[1]} enters its product with {distinct} distinct values, "
                f"{'all' if on_grid else 'not all'} on its grid of {2**grid.bits}."
            )


def _listed(keys: Iterable[Key]) -> str:
    return ", ".join(f"{path} {operand}" for path, operand in sorted(keys))

"""Quantized models of full size with random weights, for benchmarks of speed.

    python benchmarks/random_runs.py sam-vit-huge w4a4 FOLDER [carsam-plus]

Models are sam-vit-base, -large, -huge, sam2-hiera-tiny, -small, -base-plus and -large, and the
last four with a memory: sam2-video-hiera-tiny and so on.

Activations get fixed ranges instead of calibrated ones, so that SAM-H takes about a minute. The
integers then have other values than calibrated ones, but speed and memory do not depend on them.

With `carsam-plus` layers have the centres that this recipe gives them, and grids are of its kinds:
codebooks for the inputs of layers, numerators relative to the row's largest for probabilities."""

import sys
from typing import Any

import torch
from transformers import (
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamConfig,
    SamModel,
)

from carsam.families import load_model
from carsam.families.base import Constant, Site, SiteType
from carsam.families.sam.decoding import image_positions
from carsam.families.sam2.weights import released_vision
from carsam.grids.base import Grid, UniformGrid
from carsam.grids.codebook import CodebookGrid
from carsam.grids.row_maximum import RowMaximumGrid
from carsam.methods.registry import make_recipe
from carsam.simulation import slots
from carsam.simulation.centre import Centre, ChannelCentre, PlaceCentre, TokenCentre
from carsam.simulation.layers import weight_to_rows
from carsam.simulation.model import QuantizedModel, prepare

GEOMETRY = {
    "sam-vit-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "sam-vit-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "global_attn_indexes": [5, 11, 17, 23],
    },
    "sam-vit-huge": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
    },
}
HIERA = {
    "sam2-hiera-tiny": (96, 12),
    "sam2-hiera-small": (96, 16),
    "sam2-hiera-base-plus": (112, 24),
    "sam2-hiera-large": (144, 48),
}
"""Width and number of blocks."""

VIDEO = {name.replace("sam2-", "sam2-video-"): size for name, size in HIERA.items()}
"""The same of models with a memory."""

ACTIVATION_RANGE = (-4.0, 4.0)


@torch.no_grad()
def random_model(name: str) -> Any:
    """Return a model of full size; every weight is drawn anew, since the defaults are nearly 0."""
    torch.manual_seed(0)
    model: Any
    if name in VIDEO:
        vision = released_vision(*VIDEO[name])
        model = Sam2VideoModel(Sam2VideoConfig(vision_config=vision)).eval()
        for block in model.memory_encoder.memory_fuser.layers:
            block.scale.fill_(1.0)
        # It finds an object everywhere, as without one nothing is followed.
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)
    elif name in HIERA:
        model = Sam2Model(Sam2Config(vision_config=released_vision(*HIERA[name]))).eval()
    else:
        model = SamModel(SamConfig(vision_config=GEOMETRY[name])).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


CODEBOOK_BITS = 7
"""Of the fine grid that `carsam-plus` chooses entries from."""

CURVATURE = 16.0
"""Of its probabilities' numerators."""


def uniform_grid(site_type: SiteType, operand: str, bits: int) -> Grid:
    """Grids as recipe `rtn` makes them."""
    ends = (0.0, 1.0) if operand == "probabilities" else ACTIVATION_RANGE
    low, high = (torch.tensor([end]) for end in ends)
    return UniformGrid.from_range(low, high, bits)


def plus_grid(site_type: SiteType, operand: str, bits: int) -> Grid:
    """Grids as recipe `carsam-plus` makes them."""
    if operand == "probabilities":
        return RowMaximumGrid.curved(CURVATURE, bits)
    if site_type is SiteType.ATTENTION or bits >= CODEBOOK_BITS:
        return uniform_grid(site_type, operand, bits)
    levels = 2**CODEBOOK_BITS - 1
    low, high = ACTIVATION_RANGE
    entries = torch.linspace(0, levels, 2**bits).round()
    scale = torch.tensor([(high - low) / levels])
    return CodebookGrid(scale, entries[len(entries) // 2, None], entries, bits)


def random_centre(model: Any, site: Site, weight: torch.Tensor) -> Centre:
    """Return the centre that `carsam-plus` gives a layer, with random means."""
    if site.constant is Constant.PLACES:
        return PlaceCentre(weight.clone(), image_positions(model)[0, 0])
    means = torch.randn(site.own_tokens + 1, weight.shape[1])
    if site.constant is Constant.TOKENS:
        return TokenCentre.of(means, weight)
    return ChannelCentre.of(means[0], weight)


GRIDS = {"rtn": uniform_grid, "carsam-plus": plus_grid}


@torch.no_grad()
def random_run(
    name: str, bits: str, recipe_name: str = "rtn", image_size: int | None = None
) -> QuantizedModel:
    """Return a random model, minimum and maximum as weight ranges and fixed activation ranges.

    Args:
        recipe_name: of `GRIDS`, whose kinds of grids it gets.
        image_size: side of its inputs, in pixels; the model's own unless given.
    """
    family, original = load_model(random_model(name), image_size=image_size)
    recipe = make_recipe(recipe_name, bits)
    make_grid = GRIDS[recipe_name]
    model = prepare(family, original)
    for site in family.sites(model):
        chosen = recipe.bits_of(site.path, site.kind)
        layer = slots.weight_layer(model, site)
        if recipe_name == "carsam-plus" and site.constant is not None:
            layer.centre = random_centre(model, site, layer.layer.weight)
        if layer is not None and chosen.weights is not None:
            low, high = torch.aminmax(weight_to_rows(layer.layer, layer.layer.weight), dim=1)
            layer.weight_grid = UniformGrid.from_range(low[:, None], high[:, None], chosen.weights)
            layer.round_weight_()
        for operand in slots.operands(site):
            if chosen.activations is not None:
                grid = make_grid(site.type, operand, chosen.activations)
                slots.set_quantizer_(model, site, operand, grid)
    provenance = {"source": f"random {name}", "recipe": recipe.to_dict()}
    return QuantizedModel(family, model, provenance)


if __name__ == "__main__":
    random_run(*sys.argv[1:3], *sys.argv[4:]).save(sys.argv[3])

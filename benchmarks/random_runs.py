"""Quantized models of full size with random weights, for benchmarks of speed.

    python benchmarks/random_runs.py sam-vit-huge w4a4 FOLDER

Models are sam-vit-base, -large, -huge, sam2-hiera-tiny, -small, -base-plus and -large.

Activations get fixed ranges instead of calibrated ones, so that SAM-H takes about a minute. The
integers then have other values than calibrated ones, but speed and memory do not depend on them."""

import sys
from typing import Any

import torch
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

from carsam.families import load_model
from carsam.families.sam2.weights import released_vision
from carsam.grids.base import UniformGrid
from carsam.methods.registry import make_recipe
from carsam.simulation import slots
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

ACTIVATION_RANGE = (-4.0, 4.0)


@torch.no_grad()
def random_model(name: str) -> Any:
    """Return a model of full size; every weight is drawn anew, since the defaults are nearly 0."""
    torch.manual_seed(0)
    model: Any
    if name in HIERA:
        model = Sam2Model(Sam2Config(vision_config=released_vision(*HIERA[name]))).eval()
    else:
        model = SamModel(SamConfig(vision_config=GEOMETRY[name])).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


@torch.no_grad()
def random_run(name: str, bits: str) -> QuantizedModel:
    """Return a random model, minimum and maximum as weight ranges and fixed activation ranges."""
    family, original = load_model(random_model(name))
    recipe = make_recipe("rtn", bits)
    model = prepare(family, original)
    for site in family.sites(model):
        chosen = recipe.bits_of(site.path, site.kind)
        layer = slots.weight_layer(model, site)
        if layer is not None and chosen.weights is not None:
            low, high = torch.aminmax(weight_to_rows(layer.layer, layer.layer.weight), dim=1)
            layer.weight_grid = UniformGrid.from_range(low[:, None], high[:, None], chosen.weights)
            layer.round_weight_()
        for operand in slots.operands(site):
            if chosen.activations is not None:
                ends = (0.0, 1.0) if operand == "probabilities" else ACTIVATION_RANGE
                low, high = (torch.tensor([end]) for end in ends)
                grid = UniformGrid.from_range(low, high, chosen.activations)
                slots.set_quantizer_(model, site, operand, grid)
    provenance = {"source": f"random {name}", "recipe": recipe.to_dict()}
    return QuantizedModel(family, model, provenance)


if __name__ == "__main__":
    random_run(sys.argv[1], sys.argv[2]).save(sys.argv[3])

"""Give a float model quantizable layers and attention products; all of them stay float at first."""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.models.sam.modeling_sam import SamVisionAttention
from transformers.models.sam2.modeling_sam2 import Sam2Attention
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoAttention
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerAttention
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import (
    Sam3TrackerVideoAttention,
)
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionAttention

from carsam.families.base import Family, SiteType
from carsam.simulation.attention import INTERFACE, AttentionProduct, QuantizedVisionAttention
from carsam.simulation.float_parts import reproduce_
from carsam.simulation.layers import QuantizedLayer
from carsam.simulation.two_way_attention import TwoWayAttention

Replacement = Callable[[nn.Module], nn.Module]

REPLACEMENTS: dict[type[nn.Module], Replacement] = {
    SamVisionAttention: QuantizedVisionAttention,
    SamHQVisionAttention: QuantizedVisionAttention,
    Sam2Attention: TwoWayAttention,
    Sam2VideoAttention: TwoWayAttention,
    Sam3TrackerAttention: TwoWayAttention,
    Sam3TrackerVideoAttention: TwoWayAttention,
}
"""Attentions that are replaced wholly; the others ask transformers' registry how to multiply."""


def wrap_(family: Family, model: Any) -> None:
    """Wrap every site of a model, and reproduce the float parts between them to the bit."""
    for site in family.sites(model):
        module = model.get_submodule(site.path)
        if site.type is not SiteType.ATTENTION:
            rounds_once = site.kind in family.exact_kinds
            model.set_submodule(site.path, QuantizedLayer(module, rounds_once))
        elif (replacement := _replacement(module)) is not None:
            model.set_submodule(site.path, replacement(module))
        else:
            module.product = AttentionProduct()
    reproduce_(model)
    for config in family.attention_configs(model):
        config._attn_implementation = INTERFACE


def _replacement(attention: nn.Module) -> Replacement | None:
    """Return what builds the replacement of an attention, also of a derived one such as SDPA's."""
    return next((new for kind, new in REPLACEMENTS.items() if isinstance(attention, kind)), None)

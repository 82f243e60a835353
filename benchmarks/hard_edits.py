"""Edits that give a SAM the ranges of the released ones and leave its float masks alone.

Each works in place, on any model of transformers whose stages the family knows, and draws what is
arbitrary from a generator. Scales are powers of two, which fp16 holds exactly."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from carsam.families.base import Family, Role

KEY_PEAKS = 8.0
"""Distance of the two peaks of SAM-B's keys from 0 (PTQ4SAM, figure 2)."""


def key_peaks_(family: Family, model: Any, strength: float, random: torch.Generator) -> None:
    """Move each key channel of the tokens' attentions to the image to plus or minus `strength`.

    The softmax ignores what all keys share: q (k + c) = q k + q c.
    """
    for attention in _parts(family, model, Role.TOKEN_TO_IMAGE):
        bias = attention.k_proj.bias
        bias.data += strength * _signs(bias.shape, random)


def constant_channels_(
    family: Family, model: Any, strength: float, random: torch.Generator
) -> None:
    """Add plus or minus `strength` to one key channel of every head, see `key_peaks_`."""
    for attention in _parts(family, model, Role.TOKEN_TO_IMAGE):
        bias, channels = attention.k_proj.bias, _one_channel_a_head(attention, random)
        bias.data[channels] += strength * _signs(channels.shape, random)


def key_scales_(family: Family, model: Any, strength: float, random: torch.Generator) -> None:
    """Multiply one key channel of every head of the cross-attentions, and divide the query's."""
    for role in (Role.TOKEN_TO_IMAGE, Role.IMAGE_TO_TOKEN):
        for attention in _parts(family, model, role):
            channels = _one_channel_a_head(attention, random)
            _scale_rows_(attention.k_proj, channels, strength)
            _scale_rows_(attention.q_proj, channels, 1 / strength)


def query_scales_(family: Family, model: Any, strength: float, random: torch.Generator) -> None:
    """Multiply one query channel of every head of the tokens' attentions, and divide the key's."""
    for attention in _parts(family, model, Role.TOKEN_TO_IMAGE):
        channels = _one_channel_a_head(attention, random)
        _scale_rows_(attention.q_proj, channels, strength)
        _scale_rows_(attention.k_proj, channels, 1 / strength)


def norm_channels_(
    family: Family,
    model: Any,
    strength: float,
    random: torch.Generator,
    share: float = 0.01,
) -> None:
    """Multiply a share of the channels of the encoder's norms, and divide the next layers' columns.

    Where no zeros are padded between the two, as many channels get an offset of -`strength`, which
    the layers' biases take back.
    """
    for stage in family.stages(model):
        if stage.norm is None:
            continue
        norm = model.get_submodule(stage.norm.norm)
        layers = [model.get_submodule(path) for path in stage.norm.layers]
        count = max(1, round(share * len(norm.weight)))
        scaled, offset = torch.randperm(len(norm.weight), generator=random)[: 2 * count].chunk(2)
        norm.weight.data[scaled] *= strength
        norm.bias.data[scaled] *= strength
        for layer in layers:
            layer.weight.data[:, scaled] /= strength
        if stage.norm.shifts and all(layer.bias is not None for layer in layers):
            before = norm.bias.data[offset].clone()
            norm.bias.data[offset] = (before - strength).half().float()
            moved = before - norm.bias.data[offset]
            for layer in layers:
                layer.bias.data += layer.weight.data[:, offset] @ moved


def hidden_outliers_(
    family: Family,
    model: Any,
    strength: float,
    random: torch.Generator,
    pairs: int = 8,
    rarity: float = 2.5,
) -> None:
    """Add hidden units to every MLP of encoder and decoder that are large on few tokens.

    They come in pairs that read the same and write the opposite, w f(z) - w f(z) = 0. z is linear
    in the norm's output: a random direction, `rarity` standard deviations below 0 in the mean, of
    standard deviation `strength`.
    """
    for mlp, norm in _mlps(family, model):
        direction = torch.randn(pairs, len(norm.weight), generator=random)
        spread = (direction * norm.weight.data).norm(dim=1)  # the norm's output has weight and bias
        rows = strength * direction / spread[:, None]
        bias = -strength * rarity - rows @ norm.bias.data
        column = mlp.lin2.weight.data.std() / strength
        columns = column * torch.randn(len(mlp.lin2.weight), pairs, generator=random)
        columns = columns.half().float()
        _widen_(mlp, rows.repeat(2, 1), bias.repeat(2), torch.cat([columns, -columns], 1))
    added = 2 * pairs
    model.config.vision_config.mlp_dim += added
    model.config.mask_decoder_config.mlp_dim += added


def output_means_(family: Family, model: Any, strength: float, random: torch.Generator) -> None:
    """Add to what the decoder's attentions and MLPs write a part that all channels share.

    The norm that follows takes the mean over the channels away: N(x + c 1) = N(x). The part is
    u' a of what the layer reads, a; W becomes W + 1 u', whose largest singular value grows.
    """
    writers = [mlp.lin2 for mlp in _parts(family, model, Role.DECODER_MLP)]
    for role in (Role.SELF_ATTENTION, Role.TOKEN_TO_IMAGE, Role.IMAGE_TO_TOKEN):
        writers += [attention.out_proj for attention in _parts(family, model, role)]
    for layer in writers:
        weight = layer.weight.data
        weight += strength * weight.std() * torch.randn(weight.shape[1], generator=random)


Edit = Callable[[Family, Any, float, torch.Generator], None]

EDITS: dict[str, Edit] = {
    "key-peaks": key_peaks_,
    "constant-channels": constant_channels_,
    "key-scales": key_scales_,
    "query-scales": query_scales_,
    "norm-channels": norm_channels_,
    "hidden-outliers": hidden_outliers_,
    "output-means": output_means_,
}
"""Edits by name."""

FOLDED_BY_OURS = ("key-peaks", "constant-channels", "key-scales", "query-scales")
"""Edits that `balance-attention` of `carsam-plus` takes back exactly, or nearly so."""


def apply_(family: Family, model: Any, edits: dict[str, float], seed: int) -> None:
    """Apply edits of some strengths, then round every parameter to fp16, as it is stored."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, strength in edits.items():
            EDITS[name](family, model, strength, random)
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())


def _parts(family: Family, model: Any, role: Role) -> Iterator[Any]:
    """Yield the modules of all stages of a role."""
    for stage in family.stages(model):
        if stage.role is role:
            yield model.get_submodule(stage.path)


def _mlps(family: Family, model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each MLP of encoder and decoder with the norm whose output it reads."""
    for stage in family.stages(model):
        if stage.role is Role.ENCODER_MLP or stage.role is Role.DECODER_MLP:
            norm = f"{stage.block}.layer_norm2"
            yield model.get_submodule(stage.path), model.get_submodule(norm)


def _one_channel_a_head(attention: Any, random: torch.Generator) -> Tensor:
    heads, channels = attention.num_attention_heads, len(attention.k_proj.weight)
    size = channels // heads
    return torch.arange(heads) * size + torch.randint(size, (heads,), generator=random)


def _signs(shape: torch.Size, random: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=random) * 2.0 - 1


def _scale_rows_(layer: Any, rows: Tensor, factor: float) -> None:
    layer.weight.data[rows] *= factor
    layer.bias.data[rows] *= factor


def _widen_(mlp: Any, rows: Tensor, bias: Tensor, columns: Tensor) -> None:
    """Add hidden units to an MLP: what they read, (n, channels) and (n,), and write, (out, n)."""
    first, second = mlp.lin1, mlp.lin2
    first.weight = nn.Parameter(torch.cat([first.weight.data, rows]))
    first.bias = nn.Parameter(torch.cat([first.bias.data, bias]))
    second.weight = nn.Parameter(torch.cat([second.weight.data, columns], 1))
    first.out_features = second.in_features = len(first.weight)

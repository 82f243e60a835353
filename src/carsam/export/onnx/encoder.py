"""SAM's image encoder as a graph: what `carsam.runtime.encoder` computes."""

import numpy as np

from carsam.export.onnx.arithmetic import activate, norm
from carsam.export.onnx.attention import attention
from carsam.export.onnx.graph import Graph
from carsam.export.onnx.grids import Coded, Tensor, quantized
from carsam.export.onnx.layers import linear, table_rows, tokens_linear
from carsam.runtime.centred import Centred
from carsam.runtime.encoder import Encoder, EncoderBlock, Neck

MOST_SCORES = 12_000_000
"""Attention scores of a block that exist together; of more, one head's at a time."""


def encode(graph: Graph, pixels: str, encoder: Encoder) -> tuple[str, list[str]]:
    """Turn pixels (1, 3, S, S) into the image embedding (1, C, size, size).

    Returns:
        The embedding, and the tokens (size * size, channels) that each block and the neck get.
    """
    size, side = encoder.size, encoder.patch_size
    squares = graph.reshape(pixels, 3, size, side, size, side)
    squares = graph.transpose(squares, 1, 3, 2, 4, 0)
    hidden = graph.reshape(squares, size * size, side * side * 3)
    hidden = linear(graph, hidden, encoder.patch_embedding, "vision_encoder.patch_embed.projection")
    if encoder.positions is not None:
        hidden = graph("Add", hidden, encoder.positions)
    states = [hidden]
    for index, block in enumerate(encoder.blocks):
        states.append(_block(graph, states[-1], block, f"vision_encoder.layers.{index}"))
    embedding = _neck(graph, states[-1], encoder.neck, size)
    embedding = graph.reshape(graph.transpose(embedding, 1, 0), 1, -1, size, size)
    return embedding, states


def _block(graph: Graph, hidden: str, block: EncoderBlock, path: str) -> str:
    attended = _attended(graph, norm(graph, hidden, block.norm1), block, path)
    projected = linear(graph, attended, block.projection, f"{path}.attn.proj")
    hidden = graph("Add", projected, hidden)
    expanded = linear(graph, norm(graph, hidden, block.norm2), block.mlp_in, f"{path}.mlp.lin1")
    expanded = activate(graph, expanded, block.activation)
    return graph("Add", linear(graph, expanded, block.mlp_out, f"{path}.mlp.lin2"), hidden)


def _attended(graph: Graph, normalised: str, block: EncoderBlock, path: str) -> str:
    """Let tokens attend to each other within windows, or all of them."""
    tokens, heads, channels = block.tokens, block.attention.heads, block.projection.inputs
    windows, keys = tokens.key_rows.shape
    joint = linear(graph, normalised, block.qkv, f"{path}.attn.qkv")
    if (tokens.key_rows == tokens.outputs).any():  # what stands beyond the image is attended to
        joint = graph("Concat", joint, block.qkv.at_zero(None), axis=0)
    if windows > 1:
        joint = graph("Gather", joint, tokens.key_rows.ravel(), axis=0)
    joint = graph.reshape(joint, windows, keys, 3 * heads, channels // heads)
    query, key, value = graph.split(graph.transpose(joint, 0, 2, 1, 3), 3, axis=1)
    by_turns = windows * heads * keys * keys > MOST_SCORES
    attended = attention(graph, (query, key, value), block.attention, keys, by_turns)
    attended = graph.reshape(graph.transpose(attended, 0, 2, 1, 3), windows * keys, channels)
    if windows == 1:
        return attended
    rows = tokens.output_rows.ravel()
    places = np.empty(tokens.outputs, np.int32)
    places[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    return graph("Gather", attended, places, axis=0)


def _neck(graph: Graph, hidden: str, neck: Neck, size: int) -> str:
    """Map (size * size, channels) to (size * size, output channels)."""
    path = "vision_encoder.neck"
    reduced = norm(graph, tokens_linear(graph, hidden, neck.conv1, f"{path}.conv1"), neck.norm1)
    conv2, table = neck.conv2, None
    if isinstance(conv2, Centred):
        assert conv2.means is not None
        reduced, table = graph("Sub", reduced, conv2.means), table_rows(graph, conv2.table)
        conv2 = conv2.layer
    tensor = quantized(graph, reduced, conv2.input)
    around: Tensor
    if isinstance(tensor, Coded):
        around = tensor.renamed(_neighbourhoods(graph, tensor.codes, size, tensor.zero))
    else:
        around = _neighbourhoods(graph, tensor, size, np.float32(0))
    made = linear(graph, around, conv2, f"{path}.conv2")
    return norm(graph, made if table is None else graph("Add", made, table), neck.norm2)


def _neighbourhoods(graph: Graph, pixels: str, size: int, beyond: np.generic) -> str:
    """(size * size, C) to the 3 x 3 surroundings (size * size, 9 * C) of each."""
    image = graph.reshape(pixels, size, size, -1)
    axes = np.array([0, 1], np.int64)
    image = graph("Pad", image, np.ones(4, np.int64), beyond, axes)
    around = [
        graph("Slice", image, np.array(corner), np.array(corner) + size, axes)
        for corner in np.ndindex(3, 3)
    ]
    return graph("Reshape", graph("Concat", *around, axis=2), np.array([size * size, -1]))

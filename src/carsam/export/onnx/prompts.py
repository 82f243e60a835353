"""SAM's prompt encoder as a graph, for one prompt of points and box corners, and a mask."""

import numpy as np

from carsam.export.onnx.arithmetic import activate, norm
from carsam.export.onnx.graph import Graph
from carsam.export.onnx.layers import linear
from carsam.runtime.prompt_encoder import (
    PADDING_LABEL,
    MaskEmbedding,
    PositionalEncoding,
    PromptEncoder,
)

FIRST_CORNER = 2
"""Label of a box's first corner."""


def point_tokens(graph: Graph, points: str, labels: str, encoder: PromptEncoder, frame: int) -> str:
    """Turn points (1, N, 2) and labels (1, N) into tokens (N, C).

    Padding points are left out beside a box, with which SAM was trained without them.

    Args:
        points: x, y in pixels of a square of side `frame`.
        labels: 0 background, 1 object, 2 and 3 the corners of a box, -1 no point.
    """
    side = np.float32(encoder.image_size)
    if frame != encoder.image_size:
        points = graph("Mul", points, np.float32(encoder.image_size / frame))
    centres = graph("Div", graph("Add", points, np.float32(0.5)), side)
    encoded = _encoded(graph, centres, encoder.positions)
    labels = graph("Unsqueeze", labels, np.array([2], np.int64))
    padding = graph("Equal", labels, np.float32(PADDING_LABEL))
    tokens = graph("Where", padding, encoder.not_a_point, encoded)
    for label, token in enumerate(encoder.points):
        chosen = graph.cast(graph("Equal", labels, np.float32(label)), np.float32)
        tokens = graph("Add", tokens, graph("Mul", chosen, token))
    corners = graph.cast(graph("Equal", labels, np.float32(FIRST_CORNER)), np.float32)
    has_box = graph("Greater", graph("ReduceMax", corners, keepdims=0), np.float32(0))
    kept = graph("Not", graph("And", padding, has_box))
    first = np.array([0], np.int64)
    return graph("Compress", graph("Squeeze", tokens, first), graph.reshape(kept, -1), axis=0)


def image_positions(graph: Graph, encoding: PositionalEncoding, size: int) -> str:
    """Return the encoding of size x size cells, (size * size, C); computed on loading the file."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    return _encoded(graph, grid, encoding)


def dense_embedding(
    graph: Graph, mask: str, has_mask: str, encoder: PromptEncoder, size: int
) -> str:
    """Return (size * size, C) of a mask, or (1, C) broadcast to it where `has_mask` is 0 or less.

    Args:
        mask: logits (1, 1, h, w) of an earlier prediction, brought to 4 size x 4 size.
        has_mask: (1,) float32.
    """
    embedded = _embedded(graph, mask, encoder.masks, size)
    given = graph("Greater", has_mask, np.float32(0))
    return graph("Where", given, embedded, encoder.no_mask[None])


def _encoded(graph: Graph, coordinates: str | np.ndarray, encoding: PositionalEncoding) -> str:
    """Encode coordinates x, y in 0 to 1, in float64 as every engine does."""
    doubled = graph("Mul", graph.cast(coordinates, np.float64), np.float64(2))
    centred = graph("Sub", doubled, np.float64(1))
    angles = graph("MatMul", centred, encoding.frequencies.astype(np.float64))
    angles = graph("Mul", angles, np.float64(2 * np.pi))
    both = graph("Concat", graph("Sin", angles), graph("Cos", angles), axis=-1)
    return graph.cast(both, np.float32)


def _embedded(graph: Graph, mask: str, layers: MaskEmbedding, size: int) -> str:
    path = "prompt_encoder.mask_embed"
    rows = linear(graph, _squares(graph, mask, 2 * size, 1), layers.conv1, f"{path}.conv1")
    rows = activate(graph, norm(graph, rows, layers.norm1), layers.activation)
    channels = layers.conv1.outputs
    rows = linear(graph, _squares(graph, rows, size, channels), layers.conv2, f"{path}.conv2")
    rows = activate(graph, norm(graph, rows, layers.norm2), layers.activation)
    return linear(graph, rows, layers.conv3, f"{path}.conv3")


def _squares(graph: Graph, image: str, size: int, channels: int) -> str:
    """Cut an image of 2 size x 2 size pixels into squares of 4: (size * size, 4 * channels)."""
    pixels = graph.reshape(image, size, 2, size, 2, channels)
    return graph.reshape(graph.transpose(pixels, 0, 2, 1, 3, 4), size * size, 4 * channels)

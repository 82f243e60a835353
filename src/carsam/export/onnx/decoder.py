"""SAM's mask decoder as a graph, for one prompt: what `carsam.runtime.decoder` computes."""

from dataclasses import dataclass, replace

import numpy as np

from carsam.export.onnx.arithmetic import activate, norm
from carsam.export.onnx.attention import attention
from carsam.export.onnx.graph import Graph
from carsam.export.onnx.layers import feed_forward, linear, tokens_linear
from carsam.runtime.decoder import MaskDecoder, MaskUpscaling
from carsam.runtime.two_way import DecoderAttention, TwoWayBlock, TwoWayTransformer


@dataclass(frozen=True)
class Tokens:
    """Tokens and their positions.

    Args:
        values: (length, C).
        positions: (length, C).
        length: None where it depends on the prompt.
    """

    values: str
    positions: str
    length: int | None

    def placed(self, graph: Graph) -> str:
        """Return the values with their positions."""
        return graph("Add", self.values, self.positions)


def decode(
    graph: Graph, image: str, positions: str, prompt: str, decoder: MaskDecoder
) -> tuple[str, str, str]:
    """Decode one prompt.

    Args:
        image: (size * size, C), the dense prompt added.
        positions: of the image's tokens, (size * size, C).
        prompt: tokens (N, C).

    Returns:
        Kernels of the M masks (M, C / 8), predicted IoUs (1, M), and the pixels
        (16 * size * size, C / 8) that a kernel is multiplied by, the 16 of a token together.
    """
    given = graph("Concat", decoder.output_tokens, prompt, axis=0)
    tokens, picture = _transformed(
        graph,
        Tokens(given, given, None),
        Tokens(image, positions, decoder.size**2),
        decoder.transformer,
    )
    heads = "mask_decoder.output_hypernetworks_mlps"
    kernels = [
        feed_forward(graph, _row(graph, tokens, 1 + mask), network, f"{heads}.{mask}")
        for mask, network in enumerate(decoder.hypernetworks)
    ]
    ious = feed_forward(
        graph, _row(graph, tokens, 0), decoder.iou_head, "mask_decoder.iou_prediction_head"
    )
    pixels = _upscaled(graph, picture, decoder.upscaling)
    return graph("Concat", *kernels, axis=0), ious, pixels


def mask_of(graph: Graph, pixels: str, kernel: str, size: int) -> str:
    """Return the mask (1, 1, 4 size, 4 size) that a kernel (1, C / 8) makes of pixels."""
    mask = graph("MatMul", kernel, graph.transpose(pixels, 1, 0))
    # Row and column of the token, then of the pixel in the first and in the second doubling.
    mask = graph.reshape(mask, size, size, 2, 2, 2, 2)
    return graph.reshape(graph.transpose(mask, 0, 2, 4, 1, 3, 5), 1, 1, 4 * size, 4 * size)


def _transformed(
    graph: Graph, tokens: Tokens, image: Tokens, transformer: TwoWayTransformer
) -> tuple[str, str]:
    """Return what the two-way transformer makes of prompt tokens and image tokens."""
    path = "mask_decoder.transformer"
    for index, block in enumerate(transformer.blocks):
        tokens, image = _block(graph, tokens, image, block, f"{path}.layers.{index}")
    layer = transformer.final_attention
    attended = _attention(graph, tokens, image, layer, f"{path}.final_attn_token_to_image")
    return norm(graph, attended, transformer.final_norm), image.values


def _block(
    graph: Graph, tokens: Tokens, image: Tokens, block: TwoWayBlock, path: str
) -> tuple[Tokens, Tokens]:
    path_to_image = f"{path}.cross_attn_token_to_image"
    path_to_tokens = f"{path}.cross_attn_image_to_token"
    attended = _attention(
        graph, tokens, tokens, block.self_attention, f"{path}.self_attn", block.adds_positions
    )
    tokens = replace(tokens, values=norm(graph, attended, block.norm1))
    attended = _attention(graph, tokens, image, block.token_to_image, path_to_image)
    tokens = replace(tokens, values=norm(graph, attended, block.norm2))
    hidden = tokens_linear(graph, tokens.values, block.mlp_in, f"{path}.mlp.lin1")
    hidden = activate(graph, hidden, block.activation)
    hidden = tokens_linear(graph, hidden, block.mlp_out, f"{path}.mlp.lin2")
    hidden = norm(graph, graph("Add", hidden, tokens.values), block.norm3)
    tokens = replace(tokens, values=hidden)
    attended = _attention(graph, image, tokens, block.image_to_token, path_to_tokens)
    return tokens, replace(image, values=norm(graph, attended, block.norm4))


def _attention(
    graph: Graph,
    queries: Tokens,
    keys: Tokens,
    layer: DecoderAttention,
    path: str,
    positions: bool = True,
) -> str:
    """Return (queries, C): what they get from the keys.

    Args:
        positions: whether queries and keys include theirs, and the result is added to the queries.
    """
    product = layer.product
    query = queries.placed(graph) if positions else queries.values
    key = keys.placed(graph) if positions else keys.values
    projected = (
        tokens_linear(graph, query, layer.query, f"{path}.q_proj", queries.positions),
        tokens_linear(graph, key, layer.key, f"{path}.k_proj", keys.positions),
        tokens_linear(graph, keys.values, layer.value, f"{path}.v_proj"),
    )
    made, key, value = (_heads(graph, values, product.heads) for values in projected)
    attended = attention(graph, (made, key, value), product, keys.length)
    attended = graph.reshape(graph.transpose(attended, 0, 2, 1, 3), -1, layer.output.inputs)
    result = tokens_linear(graph, attended, layer.output, f"{path}.out_proj")
    return graph("Add", result, queries.values) if positions else result


def _heads(graph: Graph, values: str, heads: int) -> str:
    """(length, channels) to (1, heads, length, channels of a head)."""
    rows = graph("Unsqueeze", values, np.array([0], np.int64))
    return graph.transpose(graph.reshape(rows, 0, 0, heads, -1), 0, 2, 1, 3)


def _upscaled(graph: Graph, image: str, layers: MaskUpscaling) -> str:
    """Map (size * size, C) to (16 * size * size, C / 8)."""
    path, channels = "mask_decoder", len(layers.norm.weight)
    doubled = linear(graph, image, layers.conv1, f"{path}.upscale_conv1")
    hidden = norm(graph, graph.reshape(doubled, -1, channels), layers.norm)
    hidden = activate(graph, hidden, "gelu")
    pixels = activate(graph, linear(graph, hidden, layers.conv2, f"{path}.upscale_conv2"), "gelu")
    return graph.reshape(pixels, -1, layers.conv2.outputs // 4)


def _row(graph: Graph, tokens: str, index: int) -> str:
    """(1, C) of (length, C)."""
    return graph("Gather", tokens, np.array([index], np.int64), axis=0)

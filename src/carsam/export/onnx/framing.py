"""The way into and out of the model's square input as graphs: what `carsam.images` does outside."""

import numpy as np

from carsam.export.onnx.graph import Graph
from carsam.images.preprocess import PIXEL_MEAN, PIXEL_STD

HEIGHT_WIDTH = np.array([0, 1], np.int64)


def pixels_of(graph: Graph, image: str, side: int) -> str:
    """Bring an RGB image (h, w, 3) of 0 to 255 into the model's input: (1, 3, side, side).

    Its longer side becomes `side`; zeros fill the rest after normalising.
    """
    size = graph("Slice", graph("Shape", image), _whole(0), _whole(2))
    fitting = fitted(graph, size, side)
    resized = _resized(graph, image, graph("Concat", fitting, _whole(3), axis=0), antialias=1)
    pixels = graph("Div", graph("Sub", graph("Round", resized), PIXEL_MEAN), PIXEL_STD)
    padding = graph("Concat", _whole(0, 0), graph("Sub", _whole(side, side), fitting), axis=0)
    padded = graph("Pad", pixels, padding, np.float32(0), HEIGHT_WIDTH)
    return graph("Unsqueeze", graph.transpose(padded, 2, 0, 1), _whole(0))


def photo_mask(graph: Graph, mask: str, size: str, side: int, name: str) -> str:
    """Bring mask logits (1, 1, h, w) of a square of `side` pixels to a photo's height and width."""
    size = graph.cast(size, np.int64)
    square = _resized(graph, mask, _whole(1, 1, side, side))
    fitting = fitted(graph, size, side)
    cut = graph("Slice", square, _whole(0, 0), fitting, _whole(2, 3))
    return _resized(graph, cut, graph("Concat", _whole(1, 1), size, axis=0), name=name)


def fitted(graph: Graph, size: str, side: int) -> str:
    """Return height and width of an image whose longer side becomes `side`, as `Framing.resized`.

    Args:
        size: height and width, int64.
    """
    size = graph.cast(size, np.float64)
    longer = graph("ReduceMax", size, _whole(0), keepdims=1)
    scaled = graph("Mul", size, graph("Div", np.float64(side), longer))
    whole = graph.cast(graph("Add", scaled, np.float64(0.5)), np.int64)
    return graph("Max", whole, np.int64(1))


def square_mask(graph: Graph, mask: str, side: int) -> str:
    """Bring mask logits (1, 1, h, w) to `side` x `side`."""
    return _resized(graph, mask, _whole(1, 1, side, side))


def _resized(graph: Graph, image: str, size: str | np.ndarray, **options: object) -> str:
    mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return graph("Resize", image, "", "", size, **mode, **options)  # type: ignore[arg-type]


def _whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)

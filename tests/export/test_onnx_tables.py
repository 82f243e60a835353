"""Tables of centred layers: an export's file makes them, and stores less than they are."""

import numpy as np
import pytest

from carsam.runtime.centred import Centred, map_table
from carsam.runtime.layers import Linear
from carsam.runtime.prompt_encoder import PositionalEncoding

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from carsam.export.onnx.check import session  # noqa: E402
from carsam.export.onnx.graph import Graph  # noqa: E402
from carsam.export.onnx.layers import table_rows, tokens_linear  # noqa: E402
from carsam.export.onnx.prompts import image_positions  # noqa: E402

RANDOM = np.random.default_rng(5)
SIZE, CHANNELS, OUTPUTS = 24, 32, 48


def made(graph: Graph, result: str, rows: np.ndarray) -> tuple[np.ndarray, int]:
    """What a graph makes of rows `x`, and the bytes of its file."""
    graph("Identity", result, name="result")
    shape = {"result": ["rows", "columns"]}
    file = graph.model({"x": list(rows.shape)}, shape, {}).SerializeToString()
    return session(file).run(None, {"x": rows})[0], len(file)


def test_rows_that_repeat_are_stored_once() -> None:
    table = map_table(RANDOM.normal(size=(9, OUTPUTS)).astype(np.float32), SIZE, SIZE)
    graph = Graph(exact=True)
    zeros = np.zeros_like(table)
    found, size = made(graph, graph("Add", "x", table_rows(graph, table)), zeros)
    np.testing.assert_array_equal(found, table)
    assert size < table.nbytes / 5


def test_a_table_of_different_rows_stays_as_it_is() -> None:
    table = RANDOM.normal(size=(7, OUTPUTS)).astype(np.float32)
    graph = Graph(exact=True)
    found, _ = made(graph, graph("Add", "x", table_rows(graph, table)), np.zeros_like(table))
    np.testing.assert_array_equal(found, table)


def test_the_table_of_places_is_made_of_positions() -> None:
    encoding = PositionalEncoding(RANDOM.normal(size=(2, CHANNELS // 2)).astype(np.float32))
    positions = encoding.of_image(SIZE)
    weight = RANDOM.normal(size=(OUTPUTS, CHANNELS)).astype(np.float16).astype(np.float32)
    table = (positions.astype(np.float64) @ weight.astype(np.float64).T).astype(np.float32)
    nothing = Linear(np.zeros((OUTPUTS, CHANNELS), np.float32), None, None)
    graph = Graph(exact=True)
    placed = image_positions(graph, encoding, SIZE)
    layer = Centred(nothing, table, weight=weight)
    found, size = made(graph, tokens_linear(graph, "x", layer, "layer", placed), positions)
    np.testing.assert_array_equal(found, table)
    assert size < table.nbytes / 5

"""Exported models against the native engine: in exact mode the same bits."""

import numpy as np
import pytest
from tiny_runs import (
    codebook,
    grouped,
    log1p,
    log2,
    log_uniform,
    row_maximum,
    signed_twin,
    twin,
    with_grids,
)

from carsam.engines.native_engine import NativeEngine
from carsam.errors import UnsupportedError, UserError
from carsam.families.base import Site
from carsam.formats.checkpoint import Checkpoint
from carsam.grids.base import Grid
from carsam.images.preprocess import Frame, Framing, normalise_and_pad, resize
from carsam.images.prompts import Prompts
from carsam.images.scenes import scene
from carsam.predict.upscale import upscale_masks
from carsam.runtime.grids import CodeGrid
from carsam.runtime.layers import IntegerAttention
from carsam.simulation import slots

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from carsam.export.onnx import encoder as encoder_graph  # noqa: E402
from carsam.export.onnx.attention import attention  # noqa: E402
from carsam.export.onnx.check import session  # noqa: E402
from carsam.export.onnx.graph import Graph  # noqa: E402
from carsam.export.onnx.models import Exporter, read_exporter  # noqa: E402

PIXELS = np.random.default_rng(7).normal(size=(3, 64, 64)).astype(np.float32)
POINTS = np.array([[[10, 20], [33, 4]]], np.float32)
BOX = np.array([[3, 4, 40, 50]], np.float32)
MASK = np.random.default_rng(3).normal(size=(1, 32, 32)).astype(np.float32)
PADDING = np.zeros((1, 1, 2), np.float32)
LOGITS = 1e-5
"""Of the largest logit: what mask upscaling, a float product, may differ by."""


def embedded(exporter: Exporter) -> np.ndarray:
    model = session(exporter.encoder_of_pixels().SerializeToString())
    return model.run(None, {"x": PIXELS[None]})[0][0]


def decoded(
    exporter: Exporter,
    embedding: np.ndarray,
    points: np.ndarray,
    labels: list[int],
    mask: np.ndarray | None = None,
    size: tuple[int, int] = (64, 64),
    frame: int = 64,
) -> list[np.ndarray]:
    """Photo mask, IoU and low-resolution mask of an exported decoder."""
    inputs = {
        "image_embeddings": np.ascontiguousarray(embedding[None]),
        "point_coords": points,
        "point_labels": np.array([labels], np.float32),
        "mask_input": np.zeros((1, 1, 9, 7), np.float32) if mask is None else mask[None],
        "has_mask_input": np.array([-1 if mask is None else 1], np.float32),
        "orig_im_size": np.array(size, np.float32),
    }
    return session(exporter.decoder_of_points(frame).SerializeToString()).run(None, inputs)


def assert_same_bits(checkpoint: Checkpoint) -> None:
    """Encoder and decoder of an exact export are those of the native engine."""
    exporter, engine = read_exporter(checkpoint, exact=True), NativeEngine(checkpoint)
    (native,) = engine.encode(PIXELS)
    np.testing.assert_array_equal(embedded(exporter), native)
    assert_same_masks(exporter, engine, native)


def assert_same_masks(exporter: Exporter, engine: NativeEngine, embedding: np.ndarray) -> None:
    labels = np.array([[1, 0]])
    masks, ious = engine.decode((embedding,), Prompts(POINTS, labels, masks=MASK), False)
    given = np.concatenate([POINTS, PADDING], axis=1)
    _, iou, low = decoded(exporter, embedding, given, [1, 0, -1], MASK)
    np.testing.assert_allclose(low, masks, atol=LOGITS * np.abs(masks).max(), rtol=0)
    np.testing.assert_allclose(iou, ious, atol=1e-5)


@pytest.mark.parametrize("bits", [(4, 4), (4, 8), (8, 8), (6, 6), (2, 3), (3, 7)])
def test_integers_have_the_same_bits(quantized_pair, bits) -> None:
    weights, inputs = bits
    assert_same_bits(quantized_pair(lambda path: weights, lambda *_: inputs).checkpoint)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("make", [row_maximum, log2, log1p, twin])
def test_every_grid_of_probabilities_has_a_form(quantized_pair, make, bits) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 4)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return make(bits) if operand == "probabilities" else None

    _, checkpoint = with_grids(pair, replaced)
    assert_same_bits(checkpoint)


@pytest.mark.parametrize("make", [signed_twin, log_uniform, grouped])
def test_every_grid_of_inputs_has_a_form(quantized_pair, make) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 4)
    ends = (".qkv", "q_proj", "k_proj", "lin1") if make is grouped else (".lin2",)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        if not site.path.endswith(ends):
            return None
        channels = slots.layer(pair.model, site).layer.in_features
        return make(grid, channels) if make is grouped else make(grid)

    _, checkpoint = with_grids(pair, replaced)
    assert_same_bits(checkpoint)


@pytest.mark.parametrize("operands", [("input",), ("input", "query", "key", "value")])
@pytest.mark.parametrize("bits", [4, 7])
def test_codebooks_are_tables(quantized_pair, operands, bits) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return codebook(grid, bits) if operand in operands else None

    _, checkpoint = with_grids(pair, replaced)
    assert_same_bits(checkpoint)


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_of_float_and_quantized_sites_runs(quantized_pair, seed) -> None:
    """Sums of floats have no order of their own, and codes may follow them."""
    random = np.random.default_rng(seed)

    def bits(*site: str) -> int | None:
        return table.setdefault(site, random.choice([None, 3, 4, 8]))

    table: dict[tuple[str, ...], int | None] = {}
    checkpoint = quantized_pair(bits, bits).checkpoint
    (native,) = NativeEngine(checkpoint).encode(PIXELS)
    found = embedded(read_exporter(checkpoint, exact=True))
    assert np.sqrt(np.mean((found - native) ** 2) / np.mean(native**2)) < 0.1


@pytest.mark.parametrize("bits", [(None, None), (4, None)])
def test_floats_are_equal_but_for_the_order_of_sums(quantized_pair, bits) -> None:
    """Weights of 4 bits that meet floats are not rounded anew for a faster product."""
    weights, inputs = bits
    checkpoint = quantized_pair(lambda path: weights, lambda *_: inputs).checkpoint
    (native,) = NativeEngine(checkpoint).encode(PIXELS)
    found = embedded(read_exporter(checkpoint, exact=False))
    np.testing.assert_allclose(found, native, atol=2e-5 * np.abs(native).max(), rtol=0)


def test_without_exact_mode_a_block_is_off_by_single_codes_at_most(quantized_pair) -> None:
    checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    exporter = read_exporter(checkpoint, exact=False)
    watched = session(exporter.encoder_of_pixels(watched=True).SerializeToString())
    _, *states = watched.run(None, {"x": PIXELS[None]})
    for block, before, after in zip(
        exporter.network.encoder.blocks, states[:-1], states[1:], strict=True
    ):
        expected = block(before.copy())
        assert np.abs(after - expected).mean() < 0.02 * np.abs(expected).mean()


def test_heads_that_take_turns_give_the_same_bits(quantized_pair, monkeypatch) -> None:
    checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    together = embedded(read_exporter(checkpoint, exact=False))
    monkeypatch.setattr(encoder_graph, "MOST_SCORES", 0)
    np.testing.assert_array_equal(embedded(read_exporter(checkpoint, exact=False)), together)


@pytest.fixture
def w4a4(quantized_pair) -> Checkpoint:
    checkpoint: Checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    return checkpoint


def test_weights_are_the_bytes_of_the_checkpoint(w4a4) -> None:
    model = read_exporter(w4a4, exact=False).encoder_of_pixels()
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    name = "vision_encoder.layers.0.attn.qkv.weight_packed"
    assert stored[name].data_type == onnx.TensorProto.UINT4
    assert stored[name].raw_data == w4a4.tensors[name].tobytes()


def test_tensors_have_the_names_and_shapes_of_samexporter(w4a4) -> None:
    exporter = read_exporter(w4a4, exact=False)
    pixels, photos = exporter.encoder_of_pixels(), exporter.encoder_of_photos()
    decoder = exporter.decoder_of_points(64)
    assert shapes(pixels.graph.input) == {"x": [1, 3, 64, 64]}
    assert shapes(photos.graph.input) == {"input_image": ["image_height", "image_width", 3]}
    for encoder in (pixels, photos):
        assert shapes(encoder.graph.output) == {"image_embeddings": [1, 32, 8, 8]}
    assert shapes(decoder.graph.input) == {
        "image_embeddings": [1, 32, 8, 8],
        "point_coords": [1, "num_points", 2],
        "point_labels": [1, "num_points"],
        "mask_input": [1, 1, "mask_height", "mask_width"],
        "has_mask_input": [1],
        "orig_im_size": [2],
    }
    assert list(shapes(decoder.graph.output)) == ["masks", "iou_predictions", "low_res_masks"]


def shapes(tensors) -> dict[str, list]:
    sides = {tensor.name: tensor.type.tensor_type.shape.dim for tensor in tensors}
    return {name: [side.dim_value or side.dim_param for side in of] for name, of in sides.items()}


def test_boxes_are_two_points_and_padding_beside_them_is_left_out(w4a4) -> None:
    exporter, engine = read_exporter(w4a4, exact=True), NativeEngine(w4a4)
    (native,) = engine.encode(PIXELS)
    masks, ious = engine.decode((native,), Prompts(boxes=BOX), False)
    given = np.concatenate([BOX.reshape(1, 2, 2), PADDING], axis=1)
    _, iou, low = decoded(exporter, native, given, [2, 3, -1])
    np.testing.assert_allclose(low, masks, atol=LOGITS * np.abs(masks).max(), rtol=0)
    np.testing.assert_allclose(iou, ious, atol=1e-5)


def test_of_one_point_the_best_of_three_masks_is_chosen(w4a4) -> None:
    exporter, engine = read_exporter(w4a4, exact=True), NativeEngine(w4a4)
    (native,) = engine.encode(PIXELS)
    masks, ious = engine.decode((native,), Prompts(POINTS[:, :1], np.array([[1]])), True)
    given = np.concatenate([POINTS[:, :1], PADDING], axis=1)
    _, iou, low = decoded(exporter, native, given, [1, -1])
    best = ious[0].argmax()
    expected = masks[0, best]
    np.testing.assert_allclose(low[0, 0], expected, atol=LOGITS * np.abs(masks).max(), rtol=0)
    np.testing.assert_allclose(iou[0, 0], ious[0, best], atol=1e-5)


@pytest.mark.parametrize("size", [(48, 60), (60, 48), (97, 200), (200, 3), (64, 64)])
def test_masks_have_the_size_of_the_photo(w4a4, size) -> None:
    exporter, engine = read_exporter(w4a4, exact=True), NativeEngine(w4a4)
    frame = Frame(size, Framing(64))
    given = np.concatenate([POINTS, PADDING], axis=1)
    mask, _, low = decoded(exporter, engine.encode(PIXELS)[0], given, [1, 0, -1], size=size)
    expected = upscale_masks(low, frame)
    np.testing.assert_allclose(mask, expected, atol=1e-4 * np.abs(low).max(), rtol=0)


def test_points_may_be_given_in_another_frame(w4a4) -> None:
    exporter, engine = read_exporter(w4a4, exact=True), NativeEngine(w4a4)
    (native,) = engine.encode(PIXELS)
    given = np.concatenate([POINTS, PADDING], axis=1)
    *_, own = decoded(exporter, native, given, [1, 0, -1])
    mask, _, other = decoded(exporter, native, 16 * given, [1, 0, -1], size=(30, 40), frame=1024)
    np.testing.assert_array_equal(own, other)
    assert mask.shape == (1, 1, 30, 40)


@pytest.mark.parametrize("size", [(64, 64), (64, 40), (33, 64)])
def test_photos_of_the_model_s_size_are_only_normalised(w4a4, size) -> None:
    exporter = read_exporter(w4a4, exact=True)
    photo = scene(1).image[: size[0], : size[1]].astype(np.float32)
    model = session(exporter.encoder_of_photos().SerializeToString())
    found = model.run(None, {"input_image": photo})[0][0]
    (native,) = NativeEngine(w4a4).encode(normalise_and_pad(photo, Framing(64)))
    np.testing.assert_array_equal(found, native)


@pytest.mark.parametrize("size", [(300, 200), (31, 60), (20, 20), (512, 64)])
def test_photos_of_other_sizes_are_resized_as_pillow_does(quantized_pair, size) -> None:
    checkpoint = quantized_pair(lambda path: None, lambda *_: None).checkpoint
    photo = scene(1).image[: size[0], : size[1]]
    model = session(read_exporter(checkpoint, exact=False).encoder_of_photos().SerializeToString())
    found = model.run(None, {"input_image": photo.astype(np.float32)})[0][0]
    pixels = normalise_and_pad(resize(photo, Framing(64)), Framing(64))
    (native,) = NativeEngine(checkpoint).encode(pixels)
    assert np.abs(found - native).mean() < 0.02 * np.abs(native).mean()


def test_what_has_no_form_is_named(quantized_pair) -> None:
    pair = quantized_pair(lambda path: 4, lambda *_: 8)

    def replaced(site: Site, operand: str, grid: Grid) -> Grid | None:
        return codebook(grid, 4) if operand == "probabilities" else None

    _, checkpoint = with_grids(pair, replaced)
    with pytest.raises(UserError, match=r"no codebook grid for the probabilities of .*attn"):
        read_exporter(checkpoint, exact=False)


def test_more_keys_than_one_sum_holds_are_refused() -> None:
    byte = CodeGrid(np.float32(0.1), 0, 8)
    layer = IntegerAttention(1, 1.0, byte, byte, byte, byte)
    with pytest.raises(UnsupportedError, match=r"40000 keys.*at most 33025"):
        attention(Graph(exact=True), ("query", "key", "value"), layer, 40_000)


@pytest.mark.parametrize("family", ["sam2", "sam2_video", "sam3_tracker", "sam_hq"])
def test_other_families_are_refused_by_name(family) -> None:
    checkpoint = Checkpoint({"family": family, "model_config": {}, "sites": {}}, {})
    with pytest.raises(UserError, match=f"family {family}; an ONNX export takes the families sam"):
        read_exporter(checkpoint, exact=False)


def test_a_damaged_configuration_is_named(w4a4) -> None:
    del w4a4.manifest["model_config"]["vision_config"]["patch_size"]
    with pytest.raises(UserError, match="configuration lacks 'patch_size'"):
        read_exporter(w4a4, exact=False)

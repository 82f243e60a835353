"""Both engines, code by code and pixel by pixel."""

import numpy as np
import pytest

from carsam.calibration.quantize import quantize
from carsam.diagnosis.codes import compare_codes
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.images.preprocess import Framing, preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.images.scenes import write_scenes
from carsam.methods.recipe import Recipe, Step

BITS = ["w4a4", "w4a8", "w6a6", "w8a8"]
PER_MILLION, PIXELS_EQUAL = 10, 0.999


def boxes(side: int) -> Prompts:
    parts = [(0, 0, 1, 1), (0.25, 0.25, 0.5, 0.5), (0.5, 0.3, 0.9, 0.8)]
    return Prompts(boxes=np.array(parts, np.float32) * side)


@pytest.fixture
def quantized(tiny_sam, image_folder):
    def quantized(bits: str):
        return quantize(tiny_sam, image_folder, "rtn", bits=bits, count=2)

    return quantized


@pytest.mark.parametrize("bits", BITS)
def test_codes_of_every_site_agree(quantized, photo, bits) -> None:
    model = quantized(bits)
    pixels, _ = preprocess(photo, Framing(64))
    checkpoint = model.to_checkpoint()
    found = compare_codes(model, NativeEngine(checkpoint), pixels, boxes(64))
    sites = checkpoint.manifest["sites"]
    assert {agreement.site for agreement in found} == {p for p in sites if sites[p]["operands"]}
    for agreement in found:
        assert agreement.differing * 1_000_000 <= PER_MILLION * agreement.codes, agreement
        assert agreement.furthest <= 1, agreement


@pytest.mark.parametrize(
    ("kind", "bits"), [*(("tiny_sam2", bits) for bits in BITS), ("tiny_sam2_video", "w4a4")]
)
def test_codes_of_every_site_of_sam2_agree(request, image_folder, photo, kind, bits) -> None:
    """But for those of the memory, which images do not need."""
    model = quantize(request.getfixturevalue(kind), image_folder, "rtn", bits=bits, count=2)
    checkpoint = model.to_checkpoint()
    engine = NativeEngine(checkpoint)
    found = compare_codes(model, engine, preprocess(photo, engine.framing)[0], boxes(128))
    sites = checkpoint.manifest["sites"]
    expected = {
        path
        for path, site in sites.items()
        if site["operands"] and not site["kind"].startswith("memory")
    }
    assert {agreement.site for agreement in found} == expected
    assert not any(agreement.differing for agreement in found)


def test_entries_of_codebooks_agree(tiny_sam, image_folder, photo) -> None:
    recipe = Recipe("test", (Step("round-to-nearest"), Step("codebooks", {"attention": True})))
    model = quantize(tiny_sam, image_folder, recipe, count=2)
    found = compare_codes(
        model, NativeEngine(model.to_checkpoint()), preprocess(photo, Framing(64))[0], boxes(64)
    )
    assert not any(agreement.differing for agreement in found)


def test_a_difference_is_found(quantized, photo) -> None:
    model = quantized("w4a4")
    checkpoint = model.to_checkpoint()
    name = "vision_encoder.layers.1.mlp.lin1.input_scale"
    checkpoint.tensors[name] = checkpoint.tensors[name] * np.float32(1.5)
    engine = NativeEngine(checkpoint)
    found = compare_codes(model, engine, preprocess(photo, Framing(64))[0], boxes(64))
    first = next(agreement for agreement in found if agreement.differing)
    assert (first.site, first.operand) == (name.rpartition(".")[0], "input")


def test_more_prompts_than_the_native_engine_takes_at_once_are_refused(quantized, photo) -> None:
    prompts = Prompts(boxes=np.tile(boxes(64).boxes, (2, 1)))
    model = quantized("w4a4")
    engine = NativeEngine(model.to_checkpoint())
    with pytest.raises(ValueError, match="6 prompts; at most 4"):
        compare_codes(model, engine, preprocess(photo, Framing(64))[0], prompts)


@pytest.mark.parametrize("bits", BITS)
def test_masks_of_sam_mini_agree(tmp_path, bits) -> None:
    write_scenes(tmp_path, 2, seed=0, size=128)
    options = {"bits": bits, "count": 1, "image_size": 512}
    model = quantize("sam-mini", tmp_path / "images", "rtn", **options)
    engines = (
        TorchEngine(model.family, model.module, "simulated"),
        NativeEngine(model.to_checkpoint()),
    )
    for path in sorted((tmp_path / "images").iterdir()):
        pixels, _ = preprocess(read_image(path), engines[0].framing)
        simulated, native = (
            engine.decode(engine.encode(pixels), boxes(engine.framing.side), False)[0] > 0
            for engine in engines
        )
        assert (simulated == native).mean() >= PIXELS_EQUAL

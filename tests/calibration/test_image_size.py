"""A run for inputs of another size than its model's: every engine and every export runs it."""

import json
import re

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, SamModel

import carsam
from carsam.cli import main
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.families.meta_weights import meta_names
from carsam.formats.checkpoint import read_checkpoint
from carsam.hugging_face import export
from carsam.images.prompts import Prompts
from carsam.predict.embeddings import EmbeddingCache
from carsam.progress import Silent
from carsam.serve.segmenter import Segmenter

SIDE = 48  # 6 x 6 tokens of the tiny SAM, whose own size is 64
BOXES = Prompts(boxes=np.array([[3, 4, 40, 45], [8, 1, 47, 22]], np.float32))
QUICK = ("round-to-nearest.weights=minmax", "round-to-nearest.activations=minmax")


@pytest.fixture
def source(tiny_sam, tmp_path):
    tiny_sam.save_pretrained(tmp_path / "sam")
    return tmp_path / "sam"


@pytest.fixture
def quantized(image_folder):
    """Function that quantizes a model for a size with the folder's four images."""

    def quantized(source, side, **options):
        return carsam.quantize(
            source,
            image_folder,
            "rtn",
            settings=QUICK,
            count=4,
            prompts_per_image=2,
            image_size=side,
            **options,
        )

    return quantized


@pytest.fixture
def run(source, quantized, tmp_path):
    quantized(source, SIDE).save(tmp_path / "run")
    return tmp_path / "run"


def pixels(side):
    return np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)


def assert_engines_agree(run, side):
    native, simulated = (load(run, name) for name in ("native", "simulated"))
    assert native.framing.side == simulated.framing.side == side
    embeddings = [engine.encode(pixels(side)) for engine in (native, simulated)]
    for one, other in zip(*embeddings, strict=True):
        np.testing.assert_array_equal(one, other)
    answers = [
        engine.decode(embedding, BOXES, True)
        for engine, embedding in zip((native, simulated), embeddings, strict=True)
    ]
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_native_computes_the_bits_of_the_simulation(run) -> None:
    assert_engines_agree(run, SIDE)


def test_sam2_too(tiny_sam2, quantized, tmp_path) -> None:
    quantized(tiny_sam2, 96).save(tmp_path / "run")
    assert_engines_agree(tmp_path / "run", 96)


def test_a_model_for_videos_follows_objects(tiny_sam2_video, quantized, tmp_path, photo) -> None:
    quantized(tiny_sam2_video, 96).save(tmp_path / "run")
    predictor = carsam.SAM2VideoPredictor(load(tmp_path / "run"))
    state = predictor.init_state([photo, np.roll(photo, 5, axis=1)])
    predictor.add_new_points_or_box(state, 0, 1, box=np.array([30, 10, 90, 60], np.float32))
    masks = [logits for _, _, logits in predictor.propagate_in_video(state)]
    assert [each.shape[-2:] for each in masks] == [photo.shape[:2]] * 2


def test_the_run_says_its_size(run, capsys) -> None:
    config = read_checkpoint(run).manifest["model_config"]
    assert config["vision_config"]["image_size"] == SIDE
    assert main(["info", str(run)]) == 0
    assert f"{SIDE} x {SIDE} pixels" in capsys.readouterr().out


def test_embeddings_are_kept_apart_by_size(run, source, photo, tmp_path) -> None:
    cache = EmbeddingCache(tmp_path / "cache")
    engines = load(run), load(source, image_size=SIDE), load(source)
    for engine in (*engines, load(source, image_size=SIDE)):
        predictor = carsam.SamPredictor(engine, cache)
        predictor.set_image(photo)
        masks, _, _ = predictor.predict(box=[10, 10, 80, 70])
        assert masks.shape[1:] == photo.shape[:2]
    assert (cache.computed, cache.found) == (3, 1)


def test_transformers_loads_its_export(run, tmp_path, photo) -> None:
    export(run, tmp_path / "hf")
    model = SamModel.from_pretrained(tmp_path / "hf")
    processor = AutoProcessor.from_pretrained(tmp_path / "hf")
    inputs = processor(photo, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, SIDE, SIDE)
    found = model.get_image_embeddings(torch.from_numpy(pixels(SIDE))[None])
    expected = load(run, "simulated").encode(pixels(SIDE))
    np.testing.assert_array_equal(found[0].numpy(), expected[0])


def test_onnx_computes_its_bits(run, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "onnx"
    assert main(["export", str(run), "--onnx", str(out), "--count", "1", "--quiet"]) == 0
    report = json.loads((out / "export.json").read_text())
    assert report["exact"]


def test_a_file_under_segment_anythings_names_is_resized_alike(tiny_sam, source, tmp_path) -> None:
    names = meta_names(tiny_sam.state_dict())
    state = {names[name]: tensor for name, tensor in tiny_sam.state_dict().items()}
    torch.save(state, tmp_path / "sam.pth")
    file, folder = (load(each, image_size=SIDE) for each in (tmp_path / "sam.pth", source))
    np.testing.assert_array_equal(file.encode(pixels(SIDE)), folder.encode(pixels(SIDE)))


def test_it_is_served(run, image_folder) -> None:
    segmenter = Segmenter(str(run), "auto", "cpu", 10**6, pytest.fail)
    encoded = segmenter.encode((image_folder / "0.jpg").read_bytes())
    ((found,),) = segmenter.masks(encoded, [[10, 10, 80, 70]], None, None, False)
    assert found.mask.shape == (90, 120)


def test_a_run_takes_no_other_size(run) -> None:
    with pytest.raises(UserError, match=re.escape(f"{run} is quantized for inputs of one size")):
        load(run, image_size=64)


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)


def test_an_earlier_size_is_not_gone_on_with(source, quantized, tmp_path) -> None:
    quantized(source, 64, resume=tmp_path / "run")
    listener = Listener()
    quantized(source, SIDE, resume=tmp_path / "run", progress=listener)
    assert any("Starting anew" in said and "model" in said for said in listener.said)

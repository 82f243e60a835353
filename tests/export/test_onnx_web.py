"""ONNX Runtime Web, which browsers run, computes carsam's bits too."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from carsam.engines.native_engine import NativeEngine
from carsam.formats.checkpoint import read_checkpoint
from carsam.images.preprocess import Framing, normalise_and_pad
from carsam.images.prompts import Prompts
from carsam.images.scenes import scene

onnx = pytest.importorskip("onnx")

from carsam.export.onnx.models import read_exporter  # noqa: E402

SCRIPT = Path(__file__).with_name("run_in_node.mjs")


def run_in_node(
    packages: Path, model: bytes, inputs: dict[str, np.ndarray], output: str, folder: Path
) -> np.ndarray:
    """Run a model in a JavaScript process; return one of its outputs, flat."""
    (folder / "model.onnx").write_bytes(model)
    job: dict = {"model": str(folder / "model.onnx"), "inputs": {}}
    for name, array in inputs.items():
        path = folder / f"{name}.bin"
        array.astype(np.float32).tofile(path)
        job["inputs"][name] = {"file": str(path), "dims": list(array.shape)}
    job["outputs"] = {output: str(folder / "output.bin")}
    (folder / "job.json").write_text(json.dumps(job))
    environment = {**os.environ, "NODE_PATH": str(packages / "node_modules")}
    command = ["node", str(SCRIPT), str(folder / "job.json")]
    subprocess.run(command, check=True, env=environment, timeout=300)
    return np.fromfile(folder / "output.bin", np.float32)


def test_encoder_and_decoder_run_in_a_browser_s_runtime(client, quantized_pair, tmp_path) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    packages = client("onnxruntime-web")
    checkpoint = quantized_pair(lambda path: 4, lambda *_: 4).checkpoint
    exporter, engine = read_exporter(checkpoint, exact=True), NativeEngine(checkpoint)
    photo = scene(1).image[:64, :64]
    encoder = exporter.encoder_of_photos().SerializeToString()
    embedding = run_in_node(packages, encoder, {"input_image": photo}, "image_embeddings", tmp_path)
    (native,) = engine.encode(normalise_and_pad(photo, Framing(64)))
    np.testing.assert_array_equal(embedding.reshape(native.shape), native)
    points = np.array([[[20, 30], [0, 0]]], np.float32)
    inputs = {
        "image_embeddings": native[None],
        "point_coords": points,
        "point_labels": np.array([[1, -1]]),
        "mask_input": np.zeros((1, 1, 32, 32)),
        "has_mask_input": np.zeros(1),
        "orig_im_size": np.array([64, 64]),
    }
    decoder = exporter.decoder_of_points(64).SerializeToString()
    found = run_in_node(packages, decoder, inputs, "low_res_masks", tmp_path)
    masks, ious = engine.decode((native,), Prompts(points[:, :1], np.array([[1]])), True)
    expected = masks[0, ious[0].argmax()].ravel()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(masks).max(), rtol=0)


def test_the_bundled_run_fits_a_browser(client, tmp_path) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    packages = client("onnxruntime-web")
    checkpoint = read_checkpoint("sam-mini-w4a4")
    exporter, engine = read_exporter(checkpoint, exact=True), NativeEngine(checkpoint)
    pixels = np.random.default_rng(0).normal(size=(3, 768, 768)).astype(np.float32)
    model = exporter.encoder_of_pixels().SerializeToString()
    found = run_in_node(packages, model, {"x": pixels[None]}, "image_embeddings", tmp_path)
    np.testing.assert_array_equal(found, engine.encode(pixels)[0].ravel())

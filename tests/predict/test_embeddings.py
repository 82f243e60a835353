"""Embeddings on disk: found again only by the engine and the image that made them."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from carsam.calibration.quantize import quantize
from carsam.cli import main
from carsam.engines.load import load
from carsam.engines.native_engine import NativeEngine
from carsam.errors import UserError
from carsam.formats.checkpoint import read_checkpoint
from carsam.images.preprocess import Framing
from carsam.predict.embeddings import EmbeddingCache
from carsam.predict.predictor import SamPredictor

BOX = np.array([10, 10, 80, 70])


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings")


def masks(predictor: SamPredictor, photo: np.ndarray) -> np.ndarray:
    predictor.set_image(photo)
    return predictor.predict(box=BOX, return_logits=True)[0]


def files(cache: EmbeddingCache) -> list[Path]:
    return sorted(cache.folder.iterdir())


@pytest.mark.parametrize("name", ["native", "simulated"])
def test_masks_from_a_kept_embedding_are_the_same_to_the_bit(run, photo, cache, name) -> None:
    expected = masks(SamPredictor(load(run, name)), photo)
    for _ in range(2):
        found = masks(SamPredictor(load(run, name), cache), photo)
        np.testing.assert_array_equal(found, expected)
    assert (cache.computed, cache.found) == (1, 1)


def test_a_folder_is_enough(run, photo, tmp_path) -> None:
    masks(SamPredictor(run, tmp_path / "kept"), photo)
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".safetensors"]


def test_another_image_engine_or_checkpoint_is_encoded_anew(
    run, photo, cache, tiny_sam, image_folder
) -> None:
    other = quantize(tiny_sam, image_folder, "rtn", count=1, bits="w8a8").to_checkpoint()
    masks(SamPredictor(run, cache), photo)
    masks(SamPredictor(run, cache), photo[::-1].copy())
    masks(SamPredictor(load(run, "simulated"), cache), photo)
    masks(SamPredictor(NativeEngine(other), cache), photo)
    assert (cache.computed, cache.found) == (4, 0)


def test_a_float_model_keeps_its_embeddings_too(tiny_sam, photo, cache) -> None:
    from carsam.engines.torch_engine import TorchEngine
    from carsam.families.sam.family import SamFamily

    for _ in range(2):
        masks(SamPredictor(TorchEngine(SamFamily(), tiny_sam, "float"), cache), photo)
    assert (cache.computed, cache.found) == (1, 1)


def test_the_fingerprint_is_that_of_the_content(run, tmp_path) -> None:
    os.rename(run, tmp_path / "elsewhere")
    checkpoint = read_checkpoint(tmp_path / "elsewhere")
    before = checkpoint.fingerprint
    checkpoint.manifest["metrics"] = {"AP": 0.3}
    assert checkpoint.fingerprint == before
    checkpoint.manifest["model_config"]["vision_config"]["layer_norm_eps"] = 1.0
    assert checkpoint.fingerprint != before


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-1],
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "header": lambda content: b"\xff" * 8 + content[8:],
    "foreign": lambda content: b"\x89PNG" * 100,
    "other metadata": lambda content: content.replace(b"carsam-embedding-1", b"carsam-embedding-9"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_named_and_made_again(run, photo, tmp_path, damage) -> None:
    said: list[str] = []
    cache = EmbeddingCache(tmp_path / "embeddings", said.append)
    expected = masks(SamPredictor(run, cache), photo)
    (path,) = files(cache)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):  # the second time it is intact
        np.testing.assert_array_equal(masks(SamPredictor(run, cache), photo), expected)
    assert len(said) == 1 and str(path) in said[0]
    assert files(cache) == [path]


def test_a_file_under_another_files_name_is_not_believed(run, photo, cache) -> None:
    masks(SamPredictor(run, cache), photo)
    (first,) = files(cache)
    expected = masks(SamPredictor(run, cache), photo[::-1].copy())
    (second,) = set(files(cache)) - {first}
    second.write_bytes(first.read_bytes())
    with pytest.warns(UserWarning, match="renamed"):
        found = masks(SamPredictor(run, cache), photo[::-1].copy())
    np.testing.assert_array_equal(found, expected)


def test_writers_at_the_same_time_leave_whole_files(run, photo, cache) -> None:
    predictors = [SamPredictor(run, cache) for _ in range(4)]
    workers = [threading.Thread(target=masks, args=(p, photo)) for p in predictors]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(files(cache)) == 1
    masks(SamPredictor(run, cache), photo)
    assert cache.found >= 1


def test_a_file_cannot_be_the_folder(tmp_path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UserError, match="note is a file"):
        EmbeddingCache(tmp_path / "note")


def test_an_engine_without_a_fingerprint_is_refused(run, photo, cache) -> None:
    class Other:
        mode, framing = "other", Framing(64)

        def encode(self, pixels): ...

        def decode(self, embedding, prompts, multimask_output): ...

    with pytest.raises(UserError, match="Other has no fingerprint"):
        SamPredictor(Other(), cache).set_image(photo)


def test_embed_encodes_a_folder_once(run, image_folder, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CARSAM_CACHE", str(tmp_path / "kept"))
    (image_folder / "broken.jpg").write_bytes(b"none")
    assert main(["embed", str(run), str(image_folder), "--quiet"]) == 0
    first = capsys.readouterr()
    assert "4 embeddings computed, 0 already there" in first.out
    assert "broken.jpg" in first.err
    assert main(["embed", str(run), str(image_folder), "--quiet"]) == 0
    assert "0 embeddings computed, 4 already there" in capsys.readouterr().out


def test_embed_asks_where_to_keep_them(run, image_folder, capsys, monkeypatch) -> None:
    monkeypatch.delenv("CARSAM_CACHE", raising=False)
    assert main(["embed", str(run), str(image_folder)]) == 2
    assert "--cache" in capsys.readouterr().err


def test_predict_finds_what_embed_kept(run, image_folder, tmp_path, monkeypatch) -> None:
    kept = ["--cache", str(tmp_path / "kept")]
    prompt = [str(run), str(image_folder / "0.jpg"), "--box", "5,5,40,50"]
    assert main(["predict", *prompt, "--out", str(tmp_path / "before.png")]) == 0
    assert main(["embed", str(run), str(image_folder), *kept, "--quiet"]) == 0

    def encode(*_) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(NativeEngine, "encode", encode)
    assert main(["predict", *prompt, "--out", str(tmp_path / "after.png"), *kept]) == 0
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()


def test_a_folder_that_cannot_be_written_costs_no_mask(run, photo, tmp_path) -> None:
    said: list[str] = []
    cache = EmbeddingCache(tmp_path / "embeddings", said.append)
    (tmp_path / "embeddings").write_text("in the way")
    for _ in range(2):
        expected = masks(SamPredictor(run), photo)
        np.testing.assert_array_equal(masks(SamPredictor(run, cache), photo), expected)
    assert len(said) == 1 and "Embeddings are not kept." in said[0]
    assert cache.lost == 2


def test_embed_stops_where_it_cannot_keep_them(run, image_folder, tmp_path, capsys) -> None:
    arguments = ["embed", str(run), str(image_folder), "--cache", str(tmp_path / "kept")]
    command = [sys.executable, "-c", "import sys; from carsam.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, *arguments], text=True, stderr=subprocess.PIPE, preexec_fn=limit_files
    )
    assert done.returncode == 2
    assert "0.jpg could not be kept" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "kept").iterdir())


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

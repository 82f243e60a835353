"""Hugging Face ids, from a cache without a network."""

import shutil

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from carsam.errors import UserError
from carsam.families import load_model

COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of a hub that cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.fixture
def cached(cache, sam_folder):
    """The folder of the cached id some-lab/tuned-sam."""
    repository = cache / "models--some-lab--tuned-sam"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return shutil.copytree(sam_folder, repository / "snapshots" / COMMIT)


def refused(*words):
    with pytest.raises(UserError) as caught:
        load_model("some-lab/tuned-sam")
    for word in ("some-lab/tuned-sam", *words):
        assert word in str(caught.value)


def test_an_id_in_the_cache_loads(cached, sam_state, assert_tensors):
    assert_tensors(load_model("some-lab/tuned-sam", pytest.fail)[1], sam_state)


def test_shards_in_the_cache_load(cached, tiny_sam, sam_state, assert_tensors):
    (cached / "model.safetensors").unlink()
    tiny_sam.save_pretrained(cached, max_shard_size="50KB")
    assert_tensors(load_model("some-lab/tuned-sam")[1], sam_state)


def test_missing_weights_of_an_id_are_refused_by_name(cached):
    state = load_file(cached / "model.safetensors")
    del state["mask_decoder.iou_token.weight"]
    save_file(state, cached / "model.safetensors")
    refused("lacks mask_decoder.iou_token.weight")


def test_an_id_that_is_nowhere_says_so(cache):
    refused("no folder some-lab/tuned-sam", "local cache", str(cache), "HF_HUB_OFFLINE")


def test_an_id_without_weights_says_so(cached):
    (cached / "model.safetensors").unlink()
    refused("has no weights", "HF_HUB_OFFLINE")


def test_adapters_under_an_id_are_refused(cached):
    (cached / "adapter_config.json").write_text("{}")
    refused("adapters (LoRA", "merge_and_unload")

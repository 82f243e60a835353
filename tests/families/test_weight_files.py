"""Files by their content: what is read, what is left alone, what is refused."""

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from carsam.errors import UserError
from carsam.families.weight_files import read_contents

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def saved(tmp_path, content, name="weights.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def refused(path, *words):
    with pytest.raises(UserError) as caught:
        read_contents(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def assert_read(path, prefix=""):
    tensors = read_contents(path).tensors
    assert tensors.keys() == {prefix + name for name in STATE}
    for name, tensor in STATE.items():
        torch.testing.assert_close(tensors[prefix + name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["w.pth", "w.PT", "w.ckpt", "pytorch_model.bin", "w.safetensors"])
def test_a_file_of_torch_is_read_whatever_its_ending(tmp_path, name):
    assert_read(saved(tmp_path, STATE, name))


@pytest.mark.parametrize("name", ["w.safetensors", "W.SAFETENSORS", "w.pth", "weights"])
def test_safetensors_are_read_whatever_their_ending(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert_read(tmp_path / name)


def test_the_older_format_of_torch_is_read(tmp_path):
    assert_read(saved(tmp_path, STATE, _use_new_zipfile_serialization=False))


def test_mappings_within_mappings_give_dotted_names(tmp_path):
    contents = read_contents(saved(tmp_path, {"state": {"model": STATE}, "epoch": 3}))
    assert set(contents.tensors) == {"state.model.a.weight", "state.model.a.bias"}
    assert set(contents.holders.values()) == {"state.model"}
    assert contents.keys == ("state", "epoch")


@pytest.mark.parametrize(
    "key", ["optimizer", "optimizer_states", "optim", "lr_schedulers", "scaler", "exp_avg"]
)
def test_the_state_of_the_training_is_left_out(tmp_path, key):
    content = {"model": STATE, key: {"state": {"a.weight": {"step": torch.ones(1)}}}}
    assert_read(saved(tmp_path, content), "model.")


def test_weights_of_an_optimized_model_are_no_state_of_the_training(tmp_path):
    assert_read(saved(tmp_path, {"optimized_model": STATE}), "optimized_model.")


def test_parameters_come_without_gradients(tmp_path):
    contents = read_contents(saved(tmp_path, {"a": torch.nn.Parameter(torch.ones(2))}))
    assert not contents.tensors["a"].requires_grad


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.9),
        np.float32(0.9),
        np.int64(3),
        np.bool_(True),
        np.arange(3),
        np.dtype("float32"),
        np.random.default_rng(0).bit_generator.state,
        np.random.RandomState(0).get_state(),
        argparse.Namespace(rate=0.1, out=pathlib.PurePosixPath("out")),
        collections.defaultdict(int, a=1),
        collections.OrderedDict(a=1),
        datetime.datetime(2024, 1, 2),
        frozenset([1]),
        torch.nn.functional.relu,
        torch.nn.Linear,
        torch.device("cpu"),
        torch.float16,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stands_beside_the_weights_is_left_alone(tmp_path, value):
    assert_read(saved(tmp_path, {"model": STATE, "beside": value}), "model.")


class Program:
    """Runs a command where it is unpickled carelessly."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path, zipped):
    content = {"model": STATE, "beside": Program(f"touch {tmp_path / 'executed'}")}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    refused(path, "Cannot read", "could run any program")
    assert not (tmp_path / "executed").exists()


def test_a_list_beside_the_weights_that_torch_cannot_fill_is_named(tmp_path):
    refused(saved(tmp_path, {"model": STATE, "q": collections.deque([1])}), "collections.deque")


@pytest.mark.parametrize("key", [None, "model"])
def test_a_whole_model_is_recognised(tmp_path, key):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    contents = read_contents(saved(tmp_path, model if key is None else {key: model}))
    assert contents.whole_model and not contents.tensors
    assert "torch.nn.modules.container.Sequential" in contents.classes


@pytest.mark.parametrize(
    ("content", "found"), [([1], "a list"), (torch.ones(2), "a Tensor"), (None, "a NoneType")]
)
def test_what_has_no_names_is_refused(tmp_path, content, found):
    refused(saved(tmp_path, content), f"Found {found} in", "expected a state dict")


def test_a_cut_file_of_torch_is_refused(tmp_path):
    path = saved(tmp_path, STATE)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "Cannot read", "it is cut off")


@pytest.mark.parametrize("kept", [30, -4])
def test_a_cut_file_of_safetensors_is_refused(tmp_path, kept):
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "Cannot read", "damaged or cut off")


def test_damaged_bytes_are_refused(tmp_path):
    path = saved(tmp_path, STATE)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"a.weight", b"\xff" * 8))
    refused(path, "Cannot read")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html>", "a web page"),
        (b"Not Found", "it is a text, which begins 'Not Found'"),
        (b'{\n "error": 404}', "it is a text, which begins '{ \"error\": 404}'"),
        (bytes(100), "it is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "it is damaged"),
        (pickle.dumps({"a": 1}), "it is damaged"),
        (b"PK\x03\x04" + bytes(50), "it is cut off"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, content, found):
    (tmp_path / "sam.pth").write_bytes(content)
    refused(tmp_path / "sam.pth", "Cannot read", found)


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "sam.pth", "w") as archive:
        archive.writestr("sam_vit_b.pth", "x")
    refused(tmp_path / "sam.pth", "a zip file of sam_vit_b.pth", "unpack it")


def test_a_program_of_torchscript_is_refused(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "sam.pt"))
    refused(tmp_path / "sam.pt", "TorchScript", "state dict")

"""Damaged and hostile checkpoints: refused by name, with a reason, before memory is taken."""

import copy
import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carsam.calibration.quantize import quantize
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.formats.checkpoint import read_checkpoint

QKV = "vision_encoder.layers.0.attn.qkv"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A sound checkpoint of a random SAM of two blocks."""
    from transformers import SamConfig, SamModel

    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": 32, "patch_size": 8, "output_channels": 16, "window_size": 2}
    vision |= {"global_attn_indexes": [1], "num_pos_feats": 8}
    prompts = {"hidden_size": 16, "image_size": 32, "patch_size": 8}
    decoder = {"hidden_size": 16, "num_attention_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 8}
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    from carsam.images.scenes import write_scenes

    folder = tmp_path_factory.mktemp("sound")
    images = write_scenes(folder / "scenes", 1, seed=1, size=64).parent / "images"
    quantize(SamModel(config).eval(), images, "rtn", count=1).save(folder / "run")
    return folder / "run"


@pytest.fixture
def parts(sound: Path) -> tuple[Document, Document, bytes]:
    """Manifest, safetensors header and data of the sound checkpoint."""
    manifest = json.loads((sound / "carsam.json").read_bytes())
    content = (sound / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return manifest, json.loads(content[8 : 8 + size]), content[8 + size :]


def write(folder: Path, manifest: Document | bytes, header: Document | bytes, data: bytes) -> Path:
    """Write a checkpoint whose size and digest are right, whatever is in it."""
    folder.mkdir()
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = struct.pack("<Q", len(encoded)) + encoded + data
    (folder / "model.safetensors").write_bytes(content)
    if isinstance(manifest, dict):
        digest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = json.dumps({**manifest, "weights_file": digest}).encode()
    (folder / "carsam.json").write_bytes(manifest)
    return folder


def assert_refused(folder: Path, reason: str, file: str) -> None:
    with pytest.raises(UserError, match=reason) as refusal:
        load(folder, "native")
    assert str(folder / file) in str(refusal.value)


def set_in(document: Document, path: str, value: Any) -> Document:
    changed = copy.deepcopy(document)
    *parents, last = path.split("/")
    place = changed
    for name in parents:
        place = place[name]
    place[last] = value
    return changed


CONFIG = "model_config/vision_config"
DECODER = "model_config/mask_decoder_config"
WEIGHT = f"sites/{QKV}/weight"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (f"{CONFIG}/image_size", 10**9, "image_size is 1000000000"),
        (f"{CONFIG}/image_size", 33, "patch_size, 8, does not divide image_size, 33"),
        (f"{CONFIG}/image_size", "32", "image_size is '32'"),
        (f"{CONFIG}/image_size", 32.0, "image_size is 32.0"),
        (f"{CONFIG}/image_size", True, "image_size is True"),
        (f"{CONFIG}/patch_size", 0, "patch_size is 0"),
        (f"{CONFIG}/num_hidden_layers", 10**6, "num_hidden_layers is 1000000"),
        (f"{CONFIG}/num_attention_heads", 0, "num_attention_heads is 0"),
        (f"{CONFIG}/num_attention_heads", 3, "heads, 3, does not divide channels, 16"),
        (f"{CONFIG}/hidden_size", 10**12, "hidden_size is 1000000000000"),
        (f"{CONFIG}/hidden_size", -16, "hidden_size is -16"),
        (f"{CONFIG}/window_size", -2, "window_size is -2"),
        (f"{CONFIG}/global_attn_indexes", "1", "global_attn_indexes is no list"),
        (f"{CONFIG}/layer_norm_eps", "tiny", "layer_norm_eps is 'tiny'"),
        (f"{DECODER}/num_attention_heads", 5, "heads, 5, does not divide channels, 8"),
        (f"{DECODER}/attention_downsample_rate", 0, "attention_downsample_rate is 0"),
        (f"{DECODER}/num_multimask_outputs", 10**9, "num_multimask_outputs is 1000000000"),
        (f"{DECODER}/iou_head_depth", 10**9, "iou_head_depth is 1000000000"),
        (CONFIG, [], "are not both objects"),
        ("model_config", None, "model_config None"),
        ("family", ["sam"], r"family \['sam'\]"),
        ("sites", [], r"sites \[\]"),
        (f"sites/{QKV}", None, "is no object"),
        (f"sites/{QKV}/type", "loop", "of type loop"),
        (f"sites/{QKV}/operands", None, "operands None"),
        (f"sites/{QKV}/operands/input", 4, "is no object"),
        (f"{WEIGHT}/bits", 0, "bits 0; expected 1 to 8"),
        (f"{WEIGHT}/bits", 2.5, "bits 2.5"),
        (f"{WEIGHT}/bits", 10**9, "bits 1000000000"),
        (f"{WEIGHT}/grid", {"uniform": 1}, "grid {'uniform': 1}"),
        (f"{WEIGHT}/shape", [0, 16], r"has shape \[0, 16\]"),
        (f"{WEIGHT}/shape", [48], r"has shape \[48\]"),
        (f"{WEIGHT}/shape", [2**40, 2**40], "has shape"),
        (f"{WEIGHT}/shape", [-48, -16], "has shape"),
        (f"{WEIGHT}/shape", "48x16", "has shape '48x16'"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, parts, path, value, reason) -> None:
    manifest, header, data = parts
    folder = write(tmp_path / "run", set_in(manifest, path, value), header, data)
    assert_refused(folder, reason, "carsam.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"format": "carsam", "format": "carsam"}', "'format' stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"version": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[]", '"format" is not "carsam"'),
        (b"", "it is empty"),
    ],
)
def test_json_that_no_carsam_wrote_is_refused(tmp_path, parts, content, reason) -> None:
    _, header, data = parts
    assert_refused(write(tmp_path / "run", content, header, data), reason, "carsam.json")


def test_weights_for_another_window_are_refused(tmp_path, parts) -> None:
    manifest, header, data = parts
    folder = write(tmp_path / "run", set_in(manifest, f"{CONFIG}/window_size", 0), header, data)
    with pytest.raises(UserError, match="rel_pos_h has shape"):
        load(folder, "native")


POS = "vision_encoder.pos_embed"


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("data_offsets", [0, 10**15]),
        ("data_offsets", [-4, 0]),
        ("data_offsets", [10**15, 10**15 + 512]),
        ("data_offsets", [4, 0]),
        ("data_offsets", "0"),
        ("data_offsets", [0, 512]),  # another tensor's place
        ("shape", [2**62, 4]),
        ("shape", [2**32, 2**32, 2**32]),
        ("shape", [-1, 4, 4, 16]),
        ("shape", None),
        ("dtype", "F99"),
        ("dtype", 3),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, parts, entry, value) -> None:
    manifest, header, data = parts
    folder = write(tmp_path / "run", manifest, set_in(header, f"{POS}/{entry}", value), data)
    assert_refused(folder, "not a readable safetensors file", "model.safetensors")


def test_a_name_that_stands_twice_is_refused(tmp_path, parts) -> None:
    manifest, header, data = parts
    entry = f'{{"{POS}": {json.dumps(header[POS])}, '.encode()
    folder = write(tmp_path / "run", manifest, entry + json.dumps(header).encode()[1:], data)
    assert_refused(folder, "stands twice", "model.safetensors")


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 1, 10**9])
def test_a_header_size_beyond_the_file_is_refused(tmp_path, parts, size) -> None:
    manifest, header, data = parts
    folder = write(tmp_path / "run", manifest, header, data)
    content = struct.pack("<Q", size) + (folder / "model.safetensors").read_bytes()[8:]
    (folder / "model.safetensors").write_bytes(content)
    digest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "carsam.json").write_text(json.dumps({**manifest, "weights_file": digest}))
    assert_refused(folder, "not a readable safetensors file", "model.safetensors")


def with_bytes(parts: tuple[Document, Document, bytes], name: str, array: np.ndarray) -> bytes:
    """The data with another content of one tensor."""
    _, header, data = parts
    begin, end = header[name]["data_offsets"]
    assert array.nbytes == end - begin
    return data[:begin] + array.tobytes() + data[end:]


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        (f"{QKV}.weight_scale", np.full(48, np.nan, np.float32), "holds NaN or infinity"),
        (f"{QKV}.weight_scale", np.full(48, np.inf, np.float32), "holds NaN or infinity"),
        (f"{QKV}.weight_scale", np.zeros(48, np.float32), "scale is not positive"),
        (f"{QKV}.input_scale", np.full(1, -1, np.float32), "scale is not positive"),
        (f"{QKV}.weight_zero_point", np.full(48, 16, np.uint8), "zero_point is 16; expected less"),
        (f"{QKV}.input_zero_point", np.full(1, 255, np.uint8), "zero_point is 255"),
        (POS, np.full((1, 4, 4, 16), np.nan, np.float16), "pos_embed holds NaN or infinity"),
    ],
)
def test_numbers_that_no_grid_has_are_refused(tmp_path, parts, name, array, reason) -> None:
    folder = write(tmp_path / "run", parts[0], parts[1], with_bytes(parts, name, array))
    assert_refused(folder, reason, "model.safetensors")


@pytest.mark.parametrize("cut", [1, 1000])
def test_a_truncated_file_is_refused(tmp_path, parts, cut) -> None:
    manifest, header, data = parts
    folder = write(tmp_path / "run", manifest, header, data[:-cut])
    assert_refused(folder, "not a readable safetensors file", "model.safetensors")


REFUSE = """
import resource, sys
from carsam.engines.load import load
from carsam.errors import UserError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load(sys.argv[1], "native")
except UserError:
    pass
before = peak()
for folder in sys.argv[2:]:
    try:
        load(folder, "native")
    except UserError:
        continue
    sys.exit(f"{folder} was accepted")
print((peak() - before) // 1024)
"""


def test_refusing_takes_no_memory(tmp_path, parts) -> None:
    manifest, header, data = parts
    absurd = {
        f"{CONFIG}/image_size": 2**33,
        f"{CONFIG}/num_hidden_layers": 10**7,
        f"{DECODER}/num_multimask_outputs": 10**8,
        f"{WEIGHT}/shape": [2**31, 2**30],
    }
    folders = [
        write(tmp_path / f"manifest{i}", set_in(manifest, path, value), header, data)
        for i, (path, value) in enumerate(absurd.items())
    ]
    lies = [("data_offsets", [0, 2**40]), ("shape", [2**40])]
    folders += [
        write(tmp_path / f"header{i}", manifest, set_in(header, f"{POS}/{entry}", value), data)
        for i, (entry, value) in enumerate(lies)
    ]
    (tmp_path / "none").mkdir()
    command = [sys.executable, "-c", REFUSE, tmp_path / "none", *folders]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32  # megabytes


def test_packed_weights_stay_in_the_file(sound) -> None:
    tensors = read_checkpoint(sound).tensors
    assert np.shares_memory(tensors[f"{QKV}.weight_packed"], tensors[f"{QKV}.weight_packed"])
    assert not tensors[f"{QKV}.weight_packed"].flags.writeable

import json
import shutil

import numpy as np
import pytest

from carsam.calibration.quantize import quantize
from carsam.engines.torch_engine import TorchEngine
from carsam.formats.checkpoint import read_checkpoint, update_manifest, write_checkpoint
from carsam.images.prompts import Prompts
from carsam.simulation.model import from_checkpoint, load_simulated


def quantized(model, images):
    return quantize(model, images, "rtn", count=1, rules=["encoder.mlp=w3a5"])


@pytest.fixture
def run(tiny_sam, image_folder, kept, tmp_path):
    folder = kept / "run of several widths"
    if not folder.exists():
        quantized(tiny_sam, image_folder).save(folder)
    shutil.copytree(folder, tmp_path / "run")
    return load_simulated(tmp_path / "run"), tmp_path / "run"


def test_the_round_trip_is_exact(tiny_sam, image_folder, tmp_path):
    model = quantized(tiny_sam, image_folder)
    model.save(tmp_path / "run")
    loaded = load_simulated(tmp_path / "run")
    pixels = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    boxes = Prompts(boxes=np.array([[4, 5, 50, 40]], np.float32))
    results = []
    for module in (model.module, loaded.module):
        engine = TorchEngine(model.family, module, "simulated")
        results.append(engine.decode(engine.encode(pixels), boxes, multimask_output=True))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_saving_what_was_loaded_gives_the_same_file(run, tmp_path):
    _, folder = run
    load_simulated(folder).save(tmp_path / "again")
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (folder / "model.safetensors").read_bytes()


def test_float_parts_are_kept_in_half_precision(run):
    tensors = read_checkpoint(run[1]).tensors
    assert tensors["vision_encoder.pos_embed"].dtype == np.float16


def test_codes_are_packed_tightly(run):
    tensors = read_checkpoint(run[1]).tensors
    assert tensors["vision_encoder.layers.0.attn.qkv.weight_packed"].shape == (96, 16)  # 32 x 4
    assert tensors["vision_encoder.layers.0.mlp.lin1.weight_packed"].shape == (64, 12)  # 32 x 3


def test_the_manifest_tells_where_the_model_comes_from(run):
    manifest = read_checkpoint(run[1]).manifest
    assert manifest["recipe"]["name"] == "rtn"
    assert manifest["calibration"]["count"] == len(manifest["calibration"]["images"]) == 1
    assert len(manifest["calibration"]["sha256"]) == 64
    assert {"carsam", "torch", "transformers"} <= set(manifest["versions"])


def test_an_existing_folder_is_refused(run):
    model, folder = run
    before = (folder / "carsam.json").read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        model.save(folder)
    assert (folder / "carsam.json").read_bytes() == before


def test_force_replaces_a_checkpoint(run):
    model, folder = run
    (folder / "note.txt").write_text("old")
    model.save(folder, force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["carsam.json", "model.safetensors"]


def test_force_never_replaces_anything_else(run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"precious")
    with pytest.raises(ValueError, match="is not a carsam checkpoint"):
        run[0].save(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_a_full_disk_leaves_nothing_behind(run, tmp_path, monkeypatch):
    import errno

    import carsam.formats.checkpoint

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(carsam.formats.checkpoint, "save_file", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="No space left on the disk"):
        run[0].save(tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before


def test_an_interruption_leaves_nothing_behind(run, tmp_path, monkeypatch):
    import carsam.formats.checkpoint

    def interrupted(tensors, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(carsam.formats.checkpoint, "save_file", interrupted)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        run[0].save(tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before


def damage(folder, change):
    """Apply `change` to the manifest, as an attacker or an accident would."""
    path = folder / "carsam.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_truncated_file_is_refused(run):
    path = run[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: it has \d+ bytes"):
        read_checkpoint(run[1])


def test_a_flipped_bit_is_refused(run):
    path = run[1] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not match the SHA-256"):
        read_checkpoint(run[1])


def test_a_missing_weights_file_is_refused(run):
    (run[1] / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"it holds no model\.safetensors"):
        read_checkpoint(run[1])


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is an empty folder, not a run"):
        read_checkpoint(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no file or folder"):
        read_checkpoint(tmp_path / "nothing")


def test_a_file_of_a_run_leads_to_its_folder(run):
    for name in ("carsam.json", "model.safetensors"):
        with pytest.raises(ValueError, match=rf"{name} is a file of the run"):
            read_checkpoint(run[1] / name)


@pytest.mark.parametrize("name", ["carsam.json", "model.safetensors"])
def test_a_file_that_git_did_not_download_is_named(run, name):
    (run[1] / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=rf"{name}: it is a pointer of git-lfs"):
        read_checkpoint(run[1])


def test_metrics_are_added_to_runs_only(tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read .*carsam\.json"):
        update_manifest(tmp_path, {"metrics": {}})
    assert not any(tmp_path.iterdir())


def test_a_manifest_that_is_not_json_is_refused(run):
    (run[1] / "carsam.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_checkpoint(run[1])


def test_a_foreign_manifest_is_refused(run):
    damage(run[1], lambda manifest: manifest.update(format="other"))
    with pytest.raises(ValueError, match='"format" is not "carsam"'):
        read_checkpoint(run[1])


def test_a_newer_version_is_refused(run):
    damage(run[1], lambda manifest: manifest.update(version=3))
    with pytest.raises(ValueError, match="has version 3; this carsam reads up to 2"):
        read_checkpoint(run[1])


def test_version_1_is_read(run):
    damage(run[1], lambda manifest: manifest.update(version=1))
    read_checkpoint(run[1])


def test_an_unknown_centre_is_refused(run):
    site = "vision_encoder.layers.0.attn.qkv"
    damage(run[1], lambda manifest: manifest["sites"][site].update(centre="edges"))
    with pytest.raises(ValueError, match=f"site {site} has centre 'edges'; expected one of tokens"):
        read_checkpoint(run[1])


def test_a_manifest_that_does_not_fit_the_tensors_is_refused(run):
    site = "vision_encoder.layers.0.attn.qkv"
    damage(run[1], lambda manifest: manifest["sites"][site]["weight"].update(bits=8))
    with pytest.raises(ValueError, match=rf"{site}\.weight_packed is uint8 of shape \(96, 16\)"):
        read_checkpoint(run[1])


def test_another_programs_safetensors_is_refused(run, tmp_path):
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float64)}, tmp_path / "foreign.safetensors")
    shutil.copy(tmp_path / "foreign.safetensors", run[1] / "model.safetensors")
    content = (run[1] / "model.safetensors").read_bytes()
    import hashlib

    digest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    damage(run[1], lambda manifest: manifest.update(weights_file=digest))
    with pytest.raises(ValueError, match="holds tensors of type F64"):
        read_checkpoint(run[1])


def test_metrics_are_added_in_place(run):
    update_manifest(run[1], {"metrics": {"AP": 0.5}})
    manifest = read_checkpoint(run[1]).manifest
    assert manifest["metrics"] == {"AP": 0.5}
    assert manifest["sites"]


def test_a_checkpoint_lacking_a_tensor_is_refused(run):
    checkpoint = run[0].to_checkpoint()
    tensors = dict(checkpoint.tensors)
    del tensors["vision_encoder.pos_embed"]
    with pytest.raises(ValueError, match=r"lacks vision_encoder\.pos_embed"):
        from_checkpoint(type(checkpoint)(checkpoint.manifest, tensors))


def test_plain_arrays_are_enough_to_write_one(tmp_path):
    manifest = {"family": "sam", "model_config": {}, "sites": {}}
    write_checkpoint(tmp_path / "run", manifest, {"a": np.ones(3, np.float16)})
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "run").tensors["a"], [1, 1, 1])

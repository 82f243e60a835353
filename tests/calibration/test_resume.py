import tempfile
import warnings

import pytest
import torch
from killing import in_a_killed_child

from carsam.calibration.caches import StateCache, state_cache
from carsam.calibration.quantize import quantize
from carsam.calibration.unit_log import remove_logs
from carsam.errors import UserError
from carsam.methods.steps.rounding.gptq import FeedBackErrors
from carsam.methods.steps.training import saved_training
from carsam.methods.steps.training.legacy import HalfFloat
from carsam.methods.steps.training.polish import Polish
from carsam.methods.steps.training.reconstruct import Reconstruct

FAST = ["reconstruct.steps=5"]


def bits(model):
    return {name: tensor for name, tensor in model.to_checkpoint().tensors.items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert (tensor == second[name]).all(), name


class Killed(BaseException):
    """Stands for a kill at any moment: nothing catches it."""


def test_a_memory_goes_on_with_the_same_bits(tiny_sam2_video, image_folder, tmp_path, monkeypatch):
    """The encoder's units, some with parts elsewhere, come back; the next one is a memory's."""
    arguments = {"count": 1, "prompts_per_image": 2}
    unbroken = quantize(tiny_sam2_video, image_folder, "gptq", **arguments)
    run_, begun = FeedBackErrors.run_, []

    def dies_in_the_memory(self, unit):
        begun.append(unit.plan.name)
        if unit.plan.name.startswith("memory_attention.layers.1"):
            raise Killed
        run_(self, unit)

    monkeypatch.setattr(FeedBackErrors, "run_", dies_in_the_memory)
    with pytest.raises(Killed):
        quantize(tiny_sam2_video, image_folder, "gptq", resume=tmp_path / "run", **arguments)
    monkeypatch.setattr(FeedBackErrors, "run_", run_)
    again = quantize(tiny_sam2_video, image_folder, "gptq", resume=tmp_path / "run", **arguments)
    assert "memory_encoder.projection" in begun
    assert_same(bits(again), bits(unbroken))


def test_a_killed_run_goes_on_with_the_same_bits(tiny_sam, image_folder, tmp_path, monkeypatch):
    unbroken = quantize(tiny_sam, image_folder, "carsam", count=2, settings=FAST)
    run_, units = Reconstruct.run_, []

    def dies_at_the_fourth(self, unit):
        units.append(unit.plan.name)
        if len(units) == 4:
            raise Killed
        run_(self, unit)

    arguments = {"count": 2, "settings": FAST, "resume": tmp_path / "run"}
    monkeypatch.setattr(Reconstruct, "run_", dies_at_the_fourth)
    with pytest.raises(Killed):
        quantize(tiny_sam, image_folder, "carsam", **arguments)
    (log,) = tmp_path.glob(".run-*.units")
    assert len(list(log.glob("unit-*"))) == 3
    again = quantize(tiny_sam, image_folder, "carsam", **arguments)
    assert len(units) > 4
    assert len(set(units)) == len(units) - 1  # only the unit that died was done twice
    assert_same(bits(again), bits(unbroken))
    assert again.provenance["notes"] == unbroken.provenance["notes"]


def test_a_killed_polish_goes_on_with_the_same_bits(tiny_sam, image_folder, tmp_path, monkeypatch):
    arguments = {
        "count": 1,
        "settings": ["polish.steps=9", "polish.rate=0.00001", "polish.rounding_rate=0"],
    }
    unbroken = quantize(tiny_sam, image_folder, "carsam-plus", **arguments)
    monkeypatch.setattr(saved_training, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(saved_training, "LARGEST_SHARE", 1e9)
    step_, steps = Polish._step_, []

    def dies_at_the_sixth(self, *given):
        steps.append(1)
        if len(steps) == 6:
            raise Killed
        step_(self, *given)

    monkeypatch.setattr(Polish, "_step_", dies_at_the_sixth)
    with pytest.raises(Killed):
        quantize(tiny_sam, image_folder, "carsam-plus", resume=tmp_path / "run", **arguments)
    again = quantize(tiny_sam, image_folder, "carsam-plus", resume=tmp_path / "run", **arguments)
    assert len(steps) == 9 + 1  # only the step that died was done twice
    assert_same(bits(again), bits(unbroken))
    assert again.provenance["notes"] == unbroken.provenance["notes"]
    assert again.provenance["notes"][-1]["kept"]


def test_a_finished_polish_is_not_done_again(tiny_sam, image_folder, tmp_path, monkeypatch):
    arguments = {"count": 1, "settings": ["polish.steps=3"], "resume": tmp_path / "run"}
    first = quantize(tiny_sam, image_folder, "carsam-plus", **arguments)
    monkeypatch.setattr(Polish, "_step_", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(FeedBackErrors, "run_", lambda *_: pytest.fail("rounded again"))
    assert_same(bits(quantize(tiny_sam, image_folder, "carsam-plus", **arguments)), bits(first))


def test_polish_is_kept_at_least_once_a_minute():
    assert saved_training.SECONDS_BETWEEN_SAVES < 60


def test_logs_go_when_the_run_is_saved(tiny_sam, image_folder, tmp_path):
    for name in ("run", "runner", "run-2"):
        quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / name)
    remove_logs(tmp_path / "run")
    left = [path.name.rsplit("-", 1)[0] for path in tmp_path.glob(".*.units")]
    assert sorted(left) == [".run-2", ".runner"]


def test_a_half_written_unit_is_done_again(tiny_sam, image_folder, tmp_path):
    first = quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / "run")
    (log,) = tmp_path.glob(".run-*.units")
    path = sorted(log.glob("*.safetensors"))[2]
    path.write_bytes(path.read_bytes()[:50])
    assert_same(
        bits(quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / "run")), bits(first)
    )


def test_activations_on_disk_change_nothing(tiny_sam, image_folder):
    arguments = {"count": 2, "settings": FAST}
    on_disk = quantize(tiny_sam, image_folder, "carsam", memory=0, **arguments)
    assert_same(bits(on_disk), bits(quantize(tiny_sam, image_folder, "carsam", **arguments)))


def test_a_shared_tensor_is_counted_once(tmp_path):
    shared = torch.zeros(1000)
    cache = StateCache(2 * shared.nbytes, tmp_path)
    states = cache.keep({"own": torch.full((10,), float(i)), "shared": shared} for i in range(5))
    assert cache.used() == shared.nbytes + 5 * 40
    assert not list(tmp_path.iterdir())
    states.close()
    assert cache.used() == shared.nbytes
    del shared
    assert cache.used() == 0


def test_a_tensor_on_disk_that_two_lists_share_is_in_one_file(tmp_path):
    cache = StateCache(0, tmp_path)
    first = cache.keep({"image": torch.full((1000,), float(i))} for i in range(2))
    second = cache.keep({**state, "tokens": state["image"][:9] + 1} for state in first)
    assert len(list(tmp_path.iterdir())) == 4
    first.close()
    assert [float(state["image"][-1]) for state in second] == [0, 1]
    for index, state in enumerate(second.taken()):
        assert float(state["tokens"][0]) == index + 1
    del state
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_the_memory_is_read_back_and_removed(tmp_path):
    cache = StateCache(60, tmp_path)
    states = cache.keep({"own": torch.full((10,), float(i))} for i in range(4))
    assert len(list(tmp_path.iterdir())) == 3
    assert [float(state["own"][0]) for state in states] == [0, 1, 2, 3]
    states.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_under_the_log_is_warned_of_and_costs_nothing_else(
    tiny_sam, image_folder, tmp_path, limited_files
):
    first = quantize(tiny_sam, image_folder, "rtn", count=1)
    with limited_files(1000), pytest.warns(UserWarning, match="Cannot write .*goes on"):
        full = quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / "run")
    assert_same(bits(full), bits(first))
    assert not list(tmp_path.glob(".run-*.units/unit-000.*"))


def test_a_full_disk_under_the_activations_is_a_sentence(
    tiny_sam, image_folder, tmp_path, limited_files, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arguments = {"count": 1, "resume": tmp_path / "run"}
    with limited_files(60_000), pytest.raises(UserError, match="is full: activations"):
        quantize(tiny_sam, image_folder, "rtn", memory=0, **arguments)
    assert not list(tmp_path.glob("carsam-*"))
    done = len(list(tmp_path.glob(".run-*.units/unit-*")))
    assert done > 0
    again = quantize(tiny_sam, image_folder, "rtn", memory=0, **arguments)
    assert_same(bits(again), bits(quantize(tiny_sam, image_folder, "rtn", count=1)))


def test_what_killed_runs_left_on_the_temporary_disk_is_removed(tmp_path):
    def action(kill):
        with state_cache(0, tmp_path) as cache:
            cache.keep([{"own": torch.zeros(10)}])
            kill()

    in_a_killed_child(action)
    with state_cache(0, tmp_path) as other, state_cache(0, tmp_path):  # one that is alive
        assert other.folder.is_dir()
        assert len(list(tmp_path.iterdir())) == 4  # two folders and their locks
    assert not list(tmp_path.iterdir())


def test_a_legacy_run_is_not_taken_over(tiny_sam, image_folder, tmp_path):
    """Its quantizers drop values at random; a log of grids could not bring them back."""
    settings = ["reconstruct-unfinished.steps=1"]
    arguments = {"count": 1, "settings": settings, "resume": tmp_path / "run"}
    for _ in range(2):
        with warnings.catch_warnings(record=True):
            model = quantize(tiny_sam, image_folder, "qdrop-legacy", **arguments)
        layer = model.module.vision_encoder.layers[0].attn.qkv
        assert isinstance(layer.input_quantizer, HalfFloat)

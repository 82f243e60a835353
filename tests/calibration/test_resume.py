import pytest
import torch

from carsam.calibration.caches import StateCache
from carsam.calibration.quantize import quantize
from carsam.calibration.unit_log import remove_logs
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
    done = len(list(log.glob("unit-*.json")))
    assert done == 3
    again = quantize(tiny_sam, image_folder, "carsam", **arguments)
    assert len(units) > 4
    assert len(set(units)) == len(units) - 1  # only the unit that died was done twice
    assert_same(bits(again), bits(unbroken))
    assert again.provenance["notes"] == unbroken.provenance["notes"]


def test_logs_go_when_the_run_is_saved(tiny_sam, image_folder, tmp_path):
    quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / "run")
    quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / "runner")
    remove_logs(tmp_path / "run")
    (left,) = tmp_path.glob("*.units")
    assert left.name.startswith(".runner-")


def test_other_settings_do_not_resume(tiny_sam, image_folder, tmp_path):
    quantize(tiny_sam, image_folder, "rtn", count=1, resume=tmp_path / "run")
    quantize(tiny_sam, image_folder, "rtn", count=1, seed=1, resume=tmp_path / "run")
    assert len(list(tmp_path.glob(".run-*.units"))) == 2


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
    assert cache.used() == 0


def test_what_does_not_fit_the_memory_is_read_back_and_removed(tmp_path):
    cache = StateCache(60, tmp_path)
    states = cache.keep({"own": torch.full((10,), float(i))} for i in range(4))
    assert len(list(tmp_path.iterdir())) == 3
    assert [float(state["own"][0]) for state in states] == [0, 1, 2, 3]
    states.close()
    assert not list(tmp_path.iterdir())

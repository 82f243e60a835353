"""The training of sam2-mini from its first step to a model that follows objects, in small."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_training
from small_training import new_model, small_parts

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")
pytest.importorskip("transformers")

from carsam.engines.load import load  # noqa: E402 - after the checks for what it needs
from carsam.evaluation.davis.evaluate import evaluate_davis  # noqa: E402
from carsam.images.scenes import write_scenes  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Scenes in the place of photographs, two to train on and one to choose by."""
    data = tmp_path_factory.mktemp("data")
    (data / "coco" / "annotations").mkdir(parents=True)
    instances = write_scenes(data / "coco", 3, size=128)
    everything = json.loads(instances.read_text())
    *trained, chosen = everything["images"]
    for name in ("train", "train_partial", "val_dev_person", "calib"):
        images = [chosen] if name == "calib" else trained
        ids = {image["id"] for image in images}
        annotations = [each for each in everything["annotations"] if each["image_id"] in ids]
        document = everything | {"images": images, "annotations": annotations}
        (data / "coco" / "annotations" / f"{name}.json").write_text(json.dumps(document))
    return data


@pytest.fixture(autouse=True)
def handlers():
    """Those of the process, whatever a training does to them."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_all_parts_make_a_model_that_follows_objects(data, tmp_path, training_modules):
    from safetensors.torch import load_file
    from sam2_mini.begin import begin
    from sam2_mini.evaluate import write_clips
    from sam2_mini.export import export
    from sam2_mini.train import make_optimizers, train
    from state import Average, load_state_

    run = tmp_path / "run"
    model = new_model()
    parts = small_parts(model, run)
    train(model, parts, data, run)
    names = [part.name for part in parts]
    assert names == ["distil", "masks", "memory", "canvas", "together"]
    for part in parts:
        assert (run / f"{part.name}.safetensors").exists()
        for name, parameter in part.trained.named_parameters():
            assert torch.isfinite(parameter).all(), name
    times = {name: (run / f"{name}.safetensors").stat().st_mtime_ns for name in names}
    train(new_model(), small_parts(new_model(), run), data, run)  # nothing is left to do
    assert times == {name: (run / f"{name}.safetensors").stat().st_mtime_ns for name in names}

    assert export(run, tmp_path / "model") == names
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 12e6
    begin(tmp_path / "model", tmp_path / "again", "masks")
    assert export(tmp_path / "again", tmp_path / "images") == ["distil", "masks"]
    masks = parts[1]
    state = tmp_path / "again" / "masks.safetensors"
    optimizers = make_optimizers(masks)
    assert load_state_(state, masks.trained, Average(masks.trained, 0.9), optimizers) > 0
    assert not optimizers[0].state
    images = load(tmp_path / "images")
    assert images.family.name == "sam2"
    expected = load_file(tmp_path / "model" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "images" / "model.safetensors").items():
        assert torch.equal(tensor, expected[name]), name

    write_clips(data, tmp_path / "clips", 1, size=96, frames=3)
    found = evaluate_davis(load(tmp_path / "model"), tmp_path / "clips", year="2017")
    assert found.sequences[0].frames == 3
    assert 0 <= found.J_and_F <= 1


def test_a_training_that_was_told_to_end_goes_on(data, tmp_path, training_modules):
    from sam2_mini.train import train
    from state import averaged_weights, steps_done

    def distillation(folder, ends):
        model = new_model()
        part = small_parts(model, folder, steps=2)[0]
        plain = part.loss

        def loss(step, share):
            if step == ends:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(step, share)

        part.loss = loss
        train(model, [part], data, folder)
        return folder / "distil.safetensors"

    whole = averaged_weights(distillation(tmp_path / "whole", None))
    stopped = tmp_path / "stopped"
    assert steps_done(distillation(stopped, 0)) == 1
    assert steps_done(distillation(stopped, None)) == 2
    again = averaged_weights(stopped / "distil.safetensors")
    for name, tensor in whole.items():
        torch.testing.assert_close(again[name], tensor, atol=2e-3, rtol=2e-2)


@pytest.mark.slow
def test_two_processes_train_what_one_does(data, tmp_path):
    from safetensors.torch import load_file

    program = Path(small_training.__file__)
    training = program.parents[1] / "training"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(training), *sys.path])}
    several = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
    for count in ("1", "2"):
        command = [*several, count, "--standalone", program, data, tmp_path / count]
        subprocess.run(command, env=environment, check=True)
    one, two = (load_file(tmp_path / count / "memory.safetensors") for count in ("1", "2"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, msg=name)


def test_images_that_are_held_back_are_refused(data, tmp_path, training_modules):
    from pictures import read_photographs

    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    annotations = folder / "coco" / "annotations"
    assert len(read_photographs(folder)) == 6
    shutil.copy(annotations / "train.json", annotations / "calib.json")
    with pytest.raises(ValueError, match="trained on and held back"):
        read_photographs(folder)

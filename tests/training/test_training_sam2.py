"""The training of sam2-mini from its first step to a model that follows objects, in small."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")
transformers = pytest.importorskip("transformers")

from carsam.engines.load import load  # noqa: E402 - after the checks for what it needs
from carsam.families.sam2_mini import sam2_mini_config  # noqa: E402
from carsam.images.scenes import scene, write_scenes  # noqa: E402
from carsam.video.frames import ImageFrames  # noqa: E402
from carsam.video.session import Session  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Scenes in the place of photographs."""
    data = tmp_path_factory.mktemp("data")
    (data / "coco" / "annotations").mkdir(parents=True)
    instances = write_scenes(data / "coco", 3, size=128)
    for name in ("train", "train_partial", "val_dev_person"):
        shutil.copy(instances, data / "coco" / "annotations" / f"{name}.json")
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


def small(model, out, steps=1):
    """The parts of the training with windows of 192 pixels and few steps."""
    from sam2_mini.tracking import Clips
    from sam2_mini.train import all_parts

    parts = all_parts(model, out)
    for part in parts:
        stage = dataclasses.replace(
            part.recipe.stages[0],
            steps=steps,
            window=192,
            batch=1,
            prompts=3,
            boxes=2,
            correction_probability=1.0,
        )
        part.recipe = dataclasses.replace(part.recipe, stages=(stage,), scenes=2)
        part.clips = Clips(16, 3, (3,), 0)
    return parts


def new_model():
    return transformers.Sam2VideoModel._from_config(
        sam2_mini_config(), attn_implementation="eager"
    ).train()


@pytest.mark.slow
def test_all_parts_make_a_model_that_follows_objects(data, tmp_path, training_modules):
    from sam2_mini.export import export
    from sam2_mini.train import train

    run = tmp_path / "run"
    model = new_model()
    parts = small(model, run)
    train(model, parts, data, run)
    names = [part.name for part in parts]
    assert names == ["distil", "masks", "memory", "canvas"]
    for part in parts:
        assert (run / f"{part.name}.safetensors").exists()
        for name, parameter in part.trained.named_parameters():
            assert torch.isfinite(parameter).all(), name
    times = {name: (run / f"{name}.safetensors").stat().st_mtime_ns for name in names}
    train(new_model(), small(new_model(), run), data, run)  # nothing is left to do
    assert times == {name: (run / f"{name}.safetensors").stat().st_mtime_ns for name in names}

    assert export(run, tmp_path / "model") == names
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 12e6
    image = scene(5, 96).image
    session = Session(load(tmp_path / "model"), ImageFrames([image, image]))
    mask = np.zeros((96, 96), bool)
    mask[20:60, 30:70] = True
    session.add_mask(0, 1, mask)
    logits = [found for _, found in session.propagate(0)]
    assert len(logits) == 2 and all(np.isfinite(found).all() for found in logits)
    assert ((logits[0][0] > 0) == mask).mean() > 0.95


def test_a_training_that_was_told_to_end_goes_on(data, tmp_path, training_modules):
    from sam2_mini.train import train
    from state import averaged_weights, steps_done

    def distillation(folder, ends):
        model = new_model()
        part = small(model, folder, steps=2)[0]
        plain = part.loss

        def loss(step):
            if step == ends:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(step)

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


def test_images_that_are_held_back_are_refused(data, tmp_path, training_modules):
    from pictures import read_photographs

    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    annotations = folder / "coco" / "annotations"
    assert len(read_photographs(folder)) == 9
    document = json.loads((annotations / "train.json").read_text())
    document["images"] = document["images"][:1]
    (annotations / "calib.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="trained on and held back"):
        read_photographs(folder)

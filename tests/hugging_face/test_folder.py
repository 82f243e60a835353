import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, SamModel, pipeline
from transformers.utils import import_utils

import carsam
from carsam.cli import main
from carsam.formats.checkpoint import read_checkpoint
from carsam.hugging_face import export


def test_the_folder_is_a_run_as_well(run, folder, photo):
    ours, exported = (read_checkpoint(each) for each in (run, folder))
    assert ours.fingerprint == exported.fingerprint
    box = [10, 10, 80, 70]
    predicted = []
    for each in (run, folder):
        predictor = carsam.SamPredictor(each)
        predictor.set_image(photo)
        predicted.append(predictor.predict(box=box)[2])
    np.testing.assert_array_equal(*predicted)


def test_the_processor_prepares_what_the_predictor_does(folder, photo):
    processor = AutoProcessor.from_pretrained(folder)
    model = SamModel.from_pretrained(folder, engine="native")
    inputs = processor(
        Image.fromarray(photo), input_boxes=[[[10, 10, 80, 70]]], return_tensors="pt"
    )
    output = model(**inputs, multimask_output=False)
    masks = processor.image_processor.post_process_masks(
        output.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    predictor = carsam.SamPredictor(folder)
    predictor.set_image(photo)
    ours = predictor.predict(box=[10, 10, 80, 70], multimask_output=False)[0]
    assert (masks[0][0].numpy() == ours).mean() > 0.999


def test_the_pipeline_for_all_masks_runs(folder, photo, monkeypatch):
    """transformers takes torchvision's suppression of overlapping boxes, of any SAM."""
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[names[-1]].batched_nms = lambda boxes, scores, idxs, iou_threshold: scores.argsort()
    monkeypatch.setitem(import_utils.BACKENDS_MAPPING, "torchvision", (lambda: True, ""))
    found = [
        pipeline("mask-generation", model=str(folder), model_kwargs={"engine": engine})(
            Image.fromarray(photo),
            points_per_crop=4,
            pred_iou_thresh=-100.0,
            stability_score_thresh=-1.0,
        )
        for engine in ("simulated", "native")
    ]
    assert len(found[0]["masks"]) > 0
    assert torch.allclose(found[0]["scores"], found[1]["scores"])
    np.testing.assert_array_equal(*(np.stack(each["masks"]) for each in found))


def test_the_command_writes_it_and_says_how_to_load_it(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(run), "--hf", str(out)]) == 0
    assert "import carsam.hugging_face" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {
        "README.md",
        "carsam.json",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert main(["export", str(run), "--hf", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["export", str(run), "--hf", str(out), "--force"]) == 0


def test_photos_are_not_replaced_and_other_things_not_exported(run, image_folder, tmp_path):
    with pytest.raises(ValueError, match="is not a carsam checkpoint, so --force does not"):
        export(run, image_folder, force=True)
    with pytest.raises(ValueError, match="not a run of `carsam quantize`"):
        export(image_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_command_that_names_no_form_is_refused(run, capsys):
    assert main(["export", str(run)]) == 2
    assert "give --onnx DIR or --hf DIR" in capsys.readouterr().err

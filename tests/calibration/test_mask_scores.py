"""Thresholds of everything mode: those of the float model, and as many masks pass as there."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import carsam
from carsam.calibration.mask_scores import matching_thresholds
from carsam.errors import UserError
from carsam.formats.mask_thresholds import MaskThresholds, read_thresholds
from carsam.images.scenes import write_scenes


@pytest.fixture(scope="module")
def scores():
    random = np.random.default_rng(0)
    return random.uniform(0, 1, (400, 2)) * (0.7, 0.8)


def test_the_float_models_are_metas_times_its_own_best(scores):
    before, _ = matching_thresholds(scores, scores)
    best = np.quantile(scores, 0.95, axis=0)
    assert before.pred_iou_thresh == pytest.approx(0.88 * best[0], abs=1e-4)
    assert before.stability_score_thresh == pytest.approx(0.95 * best[1], abs=1e-4)


def test_a_model_whose_best_masks_score_1_has_metas_own():
    before, after = matching_thresholds(np.ones((40, 2)) * 1.2, np.linspace([0, 0], [1, 1], 40))
    assert before == MaskThresholds(0.88, 0.95)
    assert after.pred_iou_thresh == 0.0


@given(st.floats(0.2, 2), st.floats(-0.3, 0.3))
def test_as_many_masks_pass_as_of_the_float_model(scores, factor, shift):
    after = scores * factor + shift
    kept = [
        (found[:, 0] > own.pred_iou_thresh).sum()
        and (
            (found[:, 0] > own.pred_iou_thresh) & (found[:, 1] >= own.stability_score_thresh)
        ).sum()
        for found, own in zip((scores, after), matching_thresholds(scores, after), strict=True)
    ]
    assert abs(kept[0] - kept[1]) <= 1 < kept[0]


def test_scores_of_nothing_give_no_thresholds(scores):
    assert matching_thresholds(-scores, scores) is None
    assert matching_thresholds(scores * (1, 0), scores) is None
    assert matching_thresholds(scores, np.full_like(scores, 0.3)) is None


def test_they_are_kept_in_the_run_and_taken_for_none(tiny_sam, tmp_path):
    folder = write_scenes(tmp_path, 2, seed=1, size=64).parent / "images"
    with torch.no_grad():
        tiny_sam.mask_decoder.iou_prediction_head.proj_out.bias += 3
        for network in tiny_sam.mask_decoder.output_hypernetworks_mlps:
            network.proj_out.weight *= 100
    model = carsam.quantize(tiny_sam, folder, "rtn", count=2)
    model.save(tmp_path / "run")
    kept = model.provenance["mask_thresholds"]
    assert kept["images"] == 2 and kept["candidates"] == 2 * 16 * 3
    for engine in ("native", "simulated"):
        loaded = carsam.load(tmp_path / "run", engine)
        assert loaded.mask_thresholds.to_dict() == kept["quantized"]
        made = carsam.SamAutomaticMaskGenerator(loaded, pred_iou_thresh=None)
        assert made.pred_iou_thresh == kept["quantized"]["pred_iou_thresh"]


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        {"quantized": {"pred_iou_thresh": 0.5}},
        {"quantized": {"pred_iou_thresh": 0.5, "stability_score_thresh": "0.5"}},
        {"quantized": {"pred_iou_thresh": float("nan"), "stability_score_thresh": 1}},
        {"quantized": {"pred_iou_thresh": True, "stability_score_thresh": 1}},
        {"quantized": 3},
    ],
)
def test_damaged_ones_are_refused(damaged):
    with pytest.raises(UserError, match=r"The checkpoint is damaged: its .* is"):
        read_thresholds({"mask_thresholds": damaged})


def test_a_run_without_them_has_none():
    assert read_thresholds({}) is None

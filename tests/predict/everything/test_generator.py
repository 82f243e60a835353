"""Everything mode against segment-anything's own generator on the same model, and its refusals."""

import numpy as np
import pytest
from without_torch import run_without_torch

import carsam
from carsam.engines.load import load
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.families.sam2.family import Sam2Family
from carsam.formats.mask_thresholds import MaskThresholds

RUN = "sam-mini-w4a4"
LOW = {
    "points_per_side": 6,
    "pred_iou_thresh": 0.05,
    "stability_score_thresh": 0.1,
    "box_nms_thresh": 0.9,
}
"""What lets this small model see something in so simple a picture."""


@pytest.fixture(scope="module")
def engine():
    return load(RUN)


@pytest.fixture
def scene():
    """Discs and a box on a grey ground, (100, 150, 3)."""
    rows, columns = np.mgrid[:100, :150]
    image = np.full((100, 150, 3), 128, np.uint8)
    image[(rows - 40) ** 2 + (columns - 40) ** 2 < 600] = (220, 40, 30)
    image[(rows - 70) ** 2 + (columns - 100) ** 2 < 300] = (30, 60, 220)
    image[10:40, 90:140] = (240, 240, 90)
    return image


def generator(package, model, **settings):
    return package.SamAutomaticMaskGenerator(model, **LOW | settings)


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({}, 8),
        ({"output_mode": "coco_rle", "points_per_batch": 7}, 8),
        ({"output_mode": "uncompressed_rle", "box_nms_thresh": 0.3}, 2),
        ({"crop_n_layers": 1, "crop_n_points_downscale_factor": 2, "output_mode": "coco_rle"}, 5),
        ({"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "stability_score_offset": 0.1,
          "points_per_side": 3, "output_mode": "coco_rle"}, 5),
        ({"points_per_side": None, "point_grids": [np.array([[0.25, 0.4], [0.7, 0.7]])]}, 1),
    ],
    ids=["masks", "coco", "runs", "crops", "no thresholds", "points given"],
)  # fmt: skip
def test_metas_generator_gives_the_same_records(segment_anything, engine, scene, settings, least):
    expected = generator(segment_anything, carsam.Sam(engine), **settings).generate(scene)
    found = generator(carsam, engine, **settings).generate(scene)
    assert len(found) == len(expected) >= least
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_equal(ours, theirs)


def test_small_regions_go_as_metas_do(segment_anything, engine, scene):
    pytest.importorskip("cv2")
    settings = {"min_mask_region_area": 40, "output_mode": "coco_rle"}
    expected = generator(segment_anything, carsam.Sam(engine), **settings).generate(scene)
    found = generator(carsam, engine, **settings).generate(scene)
    assert found == expected
    assert found != generator(carsam, engine, output_mode="coco_rle").generate(scene)


def test_it_needs_no_torch_and_takes_a_file(scene, tmp_path):
    np.save(tmp_path / "scene.npy", scene)
    code = (
        "import sys, numpy as np, carsam\n"
        f"generator = carsam.SamAutomaticMaskGenerator({RUN!r}, 2, pred_iou_thresh=0.1,"
        " stability_score_thresh=0.1, output_mode='coco_rle', min_mask_region_area=20)\n"
        "assert len(generator.generate(np.load(sys.argv[1]))) > 0"
    )
    result = run_without_torch(code, str(tmp_path / "scene.npy"))
    assert result.returncode == 0, result.stderr


def test_it_runs_other_families(tiny_sam2, scene):
    engine = TorchEngine(Sam2Family(), tiny_sam2, "float")
    settings = {"pred_iou_thresh": -9, "stability_score_thresh": 0, "box_nms_thresh": 1}
    found = generator(carsam, engine, points_per_side=2, **settings).generate(scene)
    assert len(found) == 12
    assert all(each["segmentation"].shape == (100, 150) for each in found)


def test_no_mask_is_an_empty_list_and_a_sentence_with_the_best_scores(engine, scene):
    said = []
    settings = {"points_per_side": 4, "crop_n_layers": 1, "min_mask_region_area": 9}
    settings["pred_iou_thresh"] = 2.5
    found = carsam.SamAutomaticMaskGenerator(engine, **settings).generate(scene, warn=said.append)
    assert found == []
    (sentence,) = said
    assert "of 240 candidates 0 have a predicted IoU above 2.5 (the best is " in sentence
    assert "a stability score of at least 0.95 (the best is 0." in sentence
    assert "Lower pred_iou_thresh" in sentence


def test_the_stability_named_is_the_best_of_the_confident(engine, scene):
    said = []
    settings = LOW | {"stability_score_thresh": 0.9999, "stability_score_offset": 5}
    carsam.SamAutomaticMaskGenerator(engine, **settings).generate(scene, warn=said.append)
    every = generator(carsam, engine, stability_score_thresh=0, stability_score_offset=5,
                      box_nms_thresh=1.0).generate(scene)  # fmt: skip
    best = max(each["stability_score"] for each in every)
    assert f"(the best is {best:.3f})" in said[0]
    assert f"{len(every)} have a predicted IoU" in said[0]


def test_the_models_own_thresholds_are_taken_for_none(engine):
    class WithThresholds:
        mode, framing, encode, decode = "native", engine.framing, engine.encode, engine.decode
        mask_thresholds = MaskThresholds(0.5, 0.6)

    own = {"pred_iou_thresh": None, "stability_score_thresh": None}
    made = carsam.SamAutomaticMaskGenerator(WithThresholds(), **own)
    assert (made.pred_iou_thresh, made.stability_score_thresh) == (0.5, 0.6)
    made = carsam.SamAutomaticMaskGenerator(WithThresholds())
    assert (made.pred_iou_thresh, made.stability_score_thresh) == (0.88, 0.95)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"points_per_side": None}, "Give either points_per_side or point_grids"),
        ({"point_grids": [np.zeros((1, 2))]}, "Give either points_per_side or point_grids"),
        ({"points_per_side": 0}, "points_per_side 0; expected an integer of at least 1"),
        ({"points_per_side": 2.5}, "points_per_side 2.5"),
        ({"points_per_batch": 0}, "points_per_batch 0"),
        ({"crop_n_layers": -1}, "crop_n_layers -1"),
        ({"crop_overlap_ratio": 1}, "crop_overlap_ratio 1"),
        ({"min_mask_region_area": 1.5}, "min_mask_region_area 1.5"),
        ({"output_mode": "polygons"}, "'polygons'; expected one of binary_mask"),
        ({"crop_n_layers": 3, "crop_n_points_downscale_factor": 9}, "no point in the crops"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1},
         "1 point_grids for 1 layers"),
        ({"points_per_side": None, "point_grids": [np.zeros((2, 3))]}, r"shape \(2, 3\)"),
        ({"points_per_side": None, "point_grids": [np.full((1, 2), 1.5)]}, "outside 0 to 1"),
        ({"pred_iou_thresh": np.nan}, "pred_iou_thresh nan"),
        ({"stability_score_offset": "a"}, "stability_score_offset"),
        ({"box_nms_thresh": None}, "box_nms_thresh None"),
    ],
)  # fmt: skip
def test_bad_settings_get_a_sentence(engine, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        carsam.SamAutomaticMaskGenerator(engine, **settings)


def test_a_bad_image_leaves_no_image(engine):
    made = carsam.SamAutomaticMaskGenerator(engine)
    with pytest.raises(UserError, match=r"\(4, 4\)"):
        made.generate(np.zeros((4, 4)))
    assert not made.predictor.is_image_set

"""The studies' split, prompts and rows, and their table on made-up results."""

import json

import numpy as np
import pytest

from carsam.calibration.quantize import quantize
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.evaluation.boundary import boundary_iou
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES, load_model
from carsam.images.read import read_image
from carsam.methods.registry import make_steps
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.methods.steps.softmax.searched_softmax import SearchedSoftmax
from carsam.predict.predictor import SamPredictor


@pytest.fixture
def data(coco_data):
    if not (coco_data.parent / "davis").is_dir():
        pytest.skip("needs DAVIS and GrabCut beside the COCO data")
    return coco_data.parent


def test_where_a_group_goes_depends_on_its_name_alone():
    from study_images import choosing

    groups = {f"image {number}" for number in range(40)}
    chosen = choosing(groups)
    assert len(chosen) == 13 and chosen < groups
    assert choosing(set(sorted(groups, reverse=True))) == chosen
    assert choosing({"davis/libby", "davis/dog", "davis/bmx-trees"}) == {"davis/libby"}


def test_a_finished_cell_may_be_compared_with_another_row(tmp_path):
    from study import cells_of, finished, parser

    def cell(row):
        given = parser().parse_args(["data", str(tmp_path), "--row", row, "--seeds", "1"])
        return cells_of(given)[-1]

    done = cell("a: rtn")
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / f"{done.name}.json").write_text(json.dumps({"cell": done.facts}))
    compared = cell("a < b: rtn")
    assert finished(compared, tmp_path)["cell"] == compared.facts != done.facts
    with pytest.raises(UserError, match="of another study"):
        finished(cell("a: gptq"), tmp_path)


@pytest.mark.coco
def test_choosing_and_reporting_share_no_group_and_leave_out_none(data):
    from study_images import PARTS, images_of

    parts = [images_of(part, data) for part in PARTS]
    groups = [{image.group for image in part} for part in parts]
    assert not groups[0] & groups[1]
    assert [len(group) for group in groups] == [13 + 2 + 4, 26 + 6 + 9]
    names = [image.name for part in parts for image in part]
    assert len(set(names)) == len(names) == 39 + 8 * 6 + 13


@pytest.mark.coco
def test_no_image_of_a_study_was_trained_on_or_calibrates(data):
    import json

    from study_images import PARTS, images_of

    used = set()
    for name in ("train", "train_partial", "calib", "val_dev", "val_dev_person"):
        images = json.loads((data / "coco" / "annotations" / f"{name}.json").read_bytes())["images"]
        used |= {image["file_name"] for image in images}
    for part in PARTS:
        assert not used & {image.path.name for image in images_of(part, data)}


def test_the_same_image_is_asked_the_same():
    from study_prompts import MOVED, POINTS, ask

    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    first, again, other = (ask(name, mask.shape, [mask]) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(first.boxes, again.boxes)
    np.testing.assert_array_equal(first.points, again.points)
    assert not np.array_equal(first.points, other.points)
    np.testing.assert_array_equal(first.boxes[0], [30, 10, 50, 20])
    assert mask[tuple(first.points[0].astype(int)[::-1])]  # the click
    assert first.kinds == ("box", *["moved box"] * MOVED, "click", *["point"] * POINTS)
    assert (first.points >= 0).all() and (first.points < [60, 40]).all()
    nothing = ask("a", mask.shape, [])
    assert nothing.boxes.shape == (0, 4) and len(nothing.points) == POINTS


@pytest.fixture
def study_images(image_folder):
    from study_images import StudyImage

    mask = np.zeros((90, 120), bool)
    mask[20:60, 40:90] = True
    paths = sorted(image_folder.iterdir())[:2]
    return [StudyImage(path.name, path.name, path, lambda: [mask]) for path in paths]


def test_agreement_is_with_the_masks_that_a_predictor_gives(tiny_sam, randomise_, study_images):
    from study_answers import agreement_with, float_answers
    from study_prompts import ask

    engine = TorchEngine(*load_model(tiny_sam), "float")
    answers = float_answers(engine, engine.encode, study_images)
    assert [answer["name"] for answer in answers] == ["0.jpg", "1.jpg"]
    same = agreement_with(answers, engine, engine.encode, study_images)
    assert set(same["mask_iou"]) == set(same["boundary_iou"]) == {1.0}
    other_sam = type(tiny_sam)(tiny_sam.config).eval()
    randomise_(other_sam, seed=1)
    other = TorchEngine(*load_model(other_sam), "float")
    found = agreement_with(answers, other, other.encode, study_images)
    one, two = SamPredictor(engine), SamPredictor(other)
    expected = []
    for image in study_images:
        photo = read_image(image.path)
        one.set_image(photo)
        two.set_image(photo)
        asked = ask(image.name, photo.shape[:2], image.objects())
        for box in asked.boxes:
            expected.append(
                (
                    one.predict(box=box, multimask_output=False)[0][0],
                    two.predict(box=box, multimask_output=False)[0][0],
                )
            )
        for point in asked.points:
            masks, ious, _ = one.predict(point[None], [1])
            expected.append((masks[ious.argmax()], two.predict(point[None], [1])[0][ious.argmax()]))
    pairs = zip(*[(_iou(a, b), boundary_iou(a, b)) for a, b in expected], strict=True)
    for measure, values in zip(("mask_iou", "boundary_iou"), pairs, strict=True):
        np.testing.assert_allclose(found[measure], values, atol=0.02)
    assert len(found["mask_iou"]) == sum(len(answer["kinds"]) for answer in answers)


def _iou(first, second) -> float:
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def test_the_rows_of_the_paper_differ_in_what_they_say():
    from study_rows import STUDIES, recipe_of

    rows = {row.name: row for row in STUDIES["paper"]}
    assert len(rows) == 8
    for grid in ("uniform", "logarithmic"):
        for name in ("none", "MAC", "JCAR", "both"):
            row = rows[f"{name}, {grid}"]
            recipe = recipe_of(row, "strict", "w4a4", (), ["reconstruct.steps=7"])
            steps = [step.name for step in recipe.steps]
            assert ("compensate" in steps) == (name in ("MAC", "both"))
            assert ("cross+cross" in recipe.units) == (name in ("JCAR", "both"))
            assert ("adaptive-granularity" in steps) == (grid == "logarithmic")
            assert recipe.steps[-1].parameters["steps"] == 7
            assert row.baseline == (None if name == "none" else f"none, {grid}")
            legacy = recipe_of(row, "legacy", "w4a4", (), ["reconstruct.steps=7"])
            assert legacy.name == "carsam-legacy" and legacy.steps[-1].parameters["steps"] == 7


def test_every_row_is_a_recipe_of_its_own_and_has_its_baseline(tiny_sam):
    from study_rows import STUDIES, recipe_of

    sites = [(site.path, site.kind) for site in FAMILIES["sam"].sites(tiny_sam)]
    for rows in STUDIES.values():
        made = {row.name: recipe_of(row, "strict", "w4a4", (), ()) for row in rows}
        assert len(made) == len(rows)
        assert {row.baseline for row in rows if row.baseline} <= set(made)
        told = [(recipe.all_steps, recipe.units, recipe.rules) for recipe in made.values()]
        assert all(told.count(each) == 1 for each in told)
        for recipe in made.values():
            recipe.check_rules(sites)


def test_every_row_gives_probabilities_a_grid():
    from study_rows import STUDIES, recipe_of

    for row in (row for rows in STUDIES.values() for row in rows):
        steps = make_steps(recipe_of(row, "strict", "w4a4", (), ()))
        ranges = [step for step in steps if isinstance(step, RoundToNearest)]
        searched = any(isinstance(step, SearchedSoftmax) for step in steps)
        assert searched or all(step.softmax for step in ranges), row.name


def test_every_row_of_the_paper_gives_a_strict_model_of_its_grid(tiny_sam, image_folder):
    from study_rows import FLOAT_ENCODER, STUDIES, recipe_of

    image = read_image(image_folder / "0.jpg")
    for row in STUDIES["paper"]:
        recipe = recipe_of(row, "strict", "w4a4", (FLOAT_ENCODER,), ["reconstruct.steps=1"])
        model = quantize(tiny_sam, image_folder, recipe, count=1, prompts_per_image=2, device="cpu")
        assert_strict(model, [image])
        sites = model.to_checkpoint().manifest["sites"]
        assert not any(path.startswith("vision_encoder") for path in sites)
        grids = {
            site["operands"]["probabilities"]["grid"]
            for site in sites.values()
            if "probabilities" in site["operands"]
        }
        assert (grids == {"uniform"}) == row.name.endswith("uniform")


def test_rows_in_words():
    from study_rows import FLOAT_ENCODER, StudyRow, parse_row, recipe_of

    row = parse_row("slow < none: carsam -compensate reconstruct.steps=900")
    assert row == StudyRow("slow", "carsam -compensate reconstruct.steps=900", "none")
    recipe = recipe_of(row, "strict", "w4a4", (), ["polish.steps=3", "reconstruct.steps=1"])
    assert recipe.steps[-1].parameters["steps"] == 900  # its own wins
    assert parse_row("a: rtn").baseline is None
    more = recipe_of(parse_row("a: carsam-plus codebooks+compensate"), "strict", "w4a4", (), ())
    names = [step.name for step in more.steps]
    assert names.index("compensate") == names.index("codebooks") + 1
    excepting = parse_row("a: rtn *attn=w4a8 *.lin1=float")
    excepted = recipe_of(excepting, "strict", "w4a4", (FLOAT_ENCODER,), ())
    assert str(excepted.bits_of("mask_decoder.mlp.lin1", "decoder.mlp.lin1")) == "float"
    assert str(excepted.bits_of("mask_decoder.self_attn", "decoder.self_attention")) == "w4a8"
    assert excepted.bits_of("vision_encoder.attn", "encoder.qkv") == FLOAT_ENCODER.bits
    for text in ("rtn", ": rtn", "a:"):
        with pytest.raises(UserError, match="not understood"):
            parse_row(text)
    with pytest.raises(UserError, match="has no gptq to leave out"):
        recipe_of(parse_row("a: rtn -gptq"), "strict", "w4a4", (), ())
    with pytest.raises(UserError, match="no recipe is called nothing"):
        recipe_of(parse_row("a: nothing"), "strict", "w4a4", (), ())
    for text in ("rtn gptq", "rtn gptq+compensate", "rtn round-to-nearest+"):
        with pytest.raises(UserError, match="STEP is one of round-to-nearest"):
            recipe_of(parse_row(f"a: {text}"), "strict", "w4a4", (), ())


def test_the_table_pairs_seeds_that_both_have():
    from study_table import document, markdown

    random = np.random.default_rng(0)
    groups = np.repeat([f"g{n}" for n in range(10)], 3)
    base = random.random((3, 30))

    def result(values, baseline):
        row = {"name": "", "text": "", "baseline": baseline}
        return {"cell": {"row": row}, "seconds": 1.0, "mask_iou": values, "boundary_iou": values}

    results = {
        ("m", "none", "strict"): {seed: result(list(base[seed]), None) for seed in range(3)},
        ("m", "MAC", "strict"): {
            seed: result(list(base[seed] + 0.1 * seed), "none") for seed in (1, 2)
        },
    }
    about = {"m": list(groups)}, {"m": ["box", "box", "click"] * 10}
    none, mac = document(results, *about)
    clicks = base[:, 2::3].mean()
    assert none["mask_iou_by_kind"] == pytest.approx(
        {"box": (3 * base.mean() - clicks) / 2, "click": clicks}
    )
    assert "mask_iou_difference" not in none
    found = mac["mask_iou_difference"]
    assert found["seeds"] == [1, 2]
    assert found["mean"] == pytest.approx(0.15)
    assert found["by_seed"] == pytest.approx((0.1, 0.2))
    assert found["from_images"] == pytest.approx(0, abs=1e-12)
    text = markdown([none, mac])
    assert "+15.00 [" in text and "| m | MAC | strict | " in text.split("80 %")[1]
    one = {key: {1: cells[1]} for key, cells in results.items()}
    assert "80 %" not in markdown(document(one, *about))


def test_figures_show_rows_and_units(tmp_path):
    from study_figures import save_figures

    units = ["layers.0.self_attn", "layers.0.cross_attn_token_to_image + layers.0.mlp"]
    looked = {"entropy": 1.0, "inside": 0.5, "empty": 0.0}
    path = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"
    cell = {
        "focus": [{"path": path, "float": looked, "quantized": {**looked, "empty": 0.3}}],
        "losses": [
            {"unit": unit, "before": 2.0, "after": 1.0, "kept": True}
            for unit in (
                " + ".join(f"mask_decoder.transformer.{p}" for p in u.split(" + ")) for u in units
            )
        ],
        "swing": 0.25,
    }
    save_figures({("sam", "none", "strict"): {0: cell}, ("sam", "none", "legacy"): {}}, tmp_path)
    text = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(text) == {"dissipation.svg", "oscillation.svg"}
    assert "share of rows that are empty" in text["dissipation.svg"]
    assert "swing 0.25" in text["oscillation.svg"] and "0.mlp" in text["oscillation.svg"]

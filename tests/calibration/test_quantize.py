import json

import numpy as np
import pytest
import torch

from carsam.calibration.quantize import quantize
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES
from carsam.grids.base import UniformGrid
from carsam.images.preprocess import Framing, preprocess
from carsam.images.read import read_image
from carsam.methods.recipe import FLOAT_KINDS
from carsam.simulation import slots
from carsam.simulation.model import prepare


def bits_by_kind(model):
    found = {}
    for site in model.to_checkpoint().manifest["sites"].values():
        weight = site["weight"]["bits"] if site["weight"] else None
        operands = {grid["bits"] for grid in site["operands"].values()}
        found.setdefault(site["kind"], set()).add((weight, *operands))
    return found


def test_everything_but_the_papers_exceptions_is_quantized(tiny_sam, image_folder):
    model = quantize(tiny_sam, image_folder, "rtn", count=2)
    kinds = {site.kind for site in model.sites}
    assert set(bits_by_kind(model)) == kinds - set(FLOAT_KINDS)


def test_rules_change_the_bits_of_kinds_and_paths(tiny_sam, image_folder):
    rules = ["encoder.mlp=w8a8", "vision_encoder.layers.0.*=w3a5", "decoder.mlp=float"]
    model = quantize(tiny_sam, image_folder, "rtn", count=1, rules=rules)
    sites = model.to_checkpoint().manifest["sites"]
    assert sites["vision_encoder.layers.1.mlp.lin1"]["weight"]["bits"] == 8
    assert sites["vision_encoder.layers.0.mlp.lin1"]["weight"]["bits"] == 3
    assert sites["vision_encoder.layers.0.attn"]["operands"]["value"]["bits"] == 5
    assert not any(site["kind"] == "decoder.mlp" for site in sites.values())


def test_weights_and_activations_are_apart(tiny_sam, image_folder):
    model = quantize(tiny_sam, image_folder, "rtn", bits="w3a32", count=1)
    for site in model.to_checkpoint().manifest["sites"].values():
        assert site["weight"]["bits"] == 3
        assert site["operands"] == {}


@pytest.mark.parametrize("kind", FLOAT_KINDS)
def test_every_float_kind_can_be_switched_on(
    tiny_sam, tiny_sam2, tiny_sam2_video, image_folder, photo, kind
):
    owners = {"decoder.object_score_head": tiny_sam2, "memory_encoder.mask_input": tiny_sam2_video}
    source = owners.get(kind, tiny_sam)
    model = quantize(source, image_folder, "rtn", count=1, rules=[f"{kind}=w4a4"])
    assert kind in bits_by_kind(model)
    assert_strict(model, [photo])


def test_a_rule_that_fits_nothing_is_refused(tiny_sam, image_folder):
    with pytest.raises(ValueError, match=r'Rule "encoder.mpl=w8a8" fits no site'):
        quantize(tiny_sam, image_folder, "rtn", count=1, rules=["encoder.mpl=w8a8"])


@pytest.mark.parametrize(("bits", "rules"), [("float", []), ("w4a4", ["*=float"])])
def test_a_recipe_that_quantizes_nothing_is_refused(tiny_sam, image_folder, bits, rules):
    with pytest.raises(UserError, match=r"Nothing is quantized: bits .* leave everything in float"):
        quantize(tiny_sam, image_folder, "rtn", bits, count=1, rules=rules)


def test_the_model_given_is_not_changed(tiny_sam, image_folder):
    before = {name: tensor.clone() for name, tensor in tiny_sam.state_dict().items()}
    quantize(tiny_sam, image_folder, "rtn", count=1)
    after = tiny_sam.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_same_seed_gives_the_same_bits(tiny_sam, image_folder):
    first, second = (quantize(tiny_sam, image_folder, "rtn", count=2, seed=3) for _ in range(2))
    tensors = first.to_checkpoint().tensors, second.to_checkpoint().tensors
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        np.testing.assert_array_equal(tensor, tensors[1][name])


def test_minmax_grids_span_what_the_float_model_computes(tiny_sam, image_folder):
    settings = ["round-to-nearest.activations=minmax"]
    model = quantize(tiny_sam, image_folder, "rtn", count=4, settings=settings)
    grid = model.module.vision_encoder.layers[0].attn.qkv.input_quantizer
    assert isinstance(grid, UniformGrid)
    span = grid.values(torch.tensor([0.0, grid.levels]))
    prepared = prepare(FAMILIES["sam"], tiny_sam)
    seen = []
    layer = prepared.vision_encoder.layers[0].attn.qkv
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for path in sorted(image_folder.iterdir()):
        pixels, _ = preprocess(read_image(path), Framing(64))
        with torch.inference_mode():
            prepared.get_image_embeddings(torch.from_numpy(pixels)[None])
    low, high = float(min(s.min() for s in seen)), float(max(s.max() for s in seen))
    assert float(span[0]) == pytest.approx(low, abs=float(grid.scale))
    assert float(span[1]) == pytest.approx(high, abs=float(grid.scale))


@pytest.fixture
def annotated(tmp_path):
    """Function that writes a json of one object on 2.jpg: (image's values, object's) -> path."""

    def annotated(image=None, annotation=None):
        thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900}
        thing |= {"iscrowd": 0, "segmentation": [[10, 10, 40, 10, 40, 40, 10, 40]]}
        picture = {"id": 1, "file_name": "2.jpg", "width": 120, "height": 90}
        document = {
            "images": [{**picture, **(image or {})}],
            "annotations": [{**thing, **(annotation or {})}],
            "categories": [{"id": 1, "name": "thing"}],
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(document))
        return path

    return annotated


def test_annotated_boxes_limit_the_images(tiny_sam, image_folder, annotated):
    model = quantize(tiny_sam, image_folder, "rtn", coco=annotated(), count=1)
    assert model.provenance["calibration"]["images"] == ["2.jpg"]
    assert model.provenance["calibration"]["prompts"] == 16  # the box, moved copies, clicks
    assert model.provenance["calibration"]["clicks"] == 8


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ({}, {"segmentation": []}),
        ({}, {"segmentation": [[5, 5]]}),
        ({}, {"bbox": None}),
        ({"file_name": "train2017\\2.jpg"}, {}),
        ({"file_name": "/data/2.JPG"}, {}),
        ({"id": 2**100}, {"image_id": 2**100}),
        ({"id": 139}, {"image_id": "000139"}),
        ({"width": None}, {}),
    ],
)
def test_usable_annotations_calibrate_as_intact_ones(
    tiny_sam, image_folder, annotated, image, annotation
):
    expected = quantize(tiny_sam, image_folder, "rtn", coco=annotated(), count=1)
    model = quantize(tiny_sam, image_folder, "rtn", coco=annotated(image, annotation), count=1)
    assert model.provenance["calibration"]["sha256"] == expected.provenance["calibration"]["sha256"]
    weights, others = model.module.state_dict(), expected.module.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in others)


def test_a_set_of_crowds_is_refused_as_such(tiny_sam, image_folder, annotated):
    with pytest.raises(UserError, match=r"instances\.json holds no .* 1 of them crowd regions"):
        quantize(tiny_sam, image_folder, "rtn", coco=annotated(annotation={"iscrowd": 1}))


def test_images_that_are_not_in_the_folder_are_named(tiny_sam, image_folder, annotated):
    with pytest.raises(UserError, match=r"None of the 1 images of instances\.json .*gone\.jpg"):
        quantize(tiny_sam, image_folder, "rtn", coco=annotated({"file_name": "gone.jpg"}))


def test_an_activation_that_is_not_finite_is_named(tiny_sam, image_folder):
    layer = tiny_sam.vision_encoder.layers[1].mlp.lin1
    layer.register_forward_hook(lambda module, inputs, output: output / 0)
    with pytest.raises(ValueError, match=r"vision_encoder\.layers\.1\.mlp\.lin2: input holds NaN"):
        quantize(tiny_sam, image_folder, "rtn", count=1)


def test_quantizers_stand_in_every_slot_of_a_quantized_site(tiny_sam, image_folder):
    model = quantize(tiny_sam, image_folder, "rtn", count=1)
    for site in model.sites:
        if site.kind not in FLOAT_KINDS:
            for operand in slots.operands(site):
                assert isinstance(slots.quantizer(model.module, site, operand), UniformGrid)


def test_the_best_recipe_is_taken_unless_another_is_named(tiny_sam, image_folder):
    model = quantize(tiny_sam, image_folder, count=1, settings=["polish.steps=1"])
    assert model.provenance["recipe"]["name"] == "carsam-plus"

"""Our load of Meta's format against the segment-anything package itself, on random weights."""

from functools import partial

import numpy as np
import pytest
import torch
from transformers import SamConfig, SamModel

from carsam.errors import UserError
from carsam.families import load_model
from carsam.families.meta_weights import convert_meta_state_dict
from carsam.images.read import list_images, read_image
from carsam.predict.predictor import SamPredictor


def load_meta_checkpoint(path):
    return load_model(path)[1]


def build_tiny(segment_anything):
    """Meta's Sam of 64 pixels, 8 x 8 tokens, windows of 3 and one global block."""
    modeling = segment_anything.modeling
    width, hidden, size, patch = 48, 32, 64, 8
    return modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            depth=3,
            embed_dim=width,
            img_size=size,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=4,
            patch_size=patch,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=3,
            out_chans=hidden,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=hidden,
            image_embedding_size=(size // patch, size // patch),
            input_image_size=(size, size),
            mask_in_chans=8,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=hidden, mlp_dim=64, num_heads=8
            ),
            transformer_dim=hidden,
            iou_head_depth=4,
            iou_head_hidden_dim=24,
        ),
    )


@pytest.fixture(scope="module")
def meta_sam(segment_anything, randomise_):
    model = build_tiny(segment_anything).eval()
    randomise_(model)
    return model


@pytest.fixture
def state(meta_sam):
    return {name: tensor.clone() for name, tensor in meta_sam.state_dict().items()}


@pytest.fixture
def checkpoint(state, tmp_path):
    path = tmp_path / "sam.pth"
    torch.save(state, path)
    return path


def assert_same_prediction(ours, theirs, tolerance, **prompt):
    masks, ious, low_res = ours.predict(**prompt, return_logits=True)
    expected_masks, expected_ious, expected_low_res = theirs.predict(**prompt, return_logits=True)
    np.testing.assert_allclose(low_res, expected_low_res, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ious, expected_ious, rtol=0, atol=tolerance)
    np.testing.assert_allclose(masks, expected_masks, rtol=0, atol=tolerance)


PROMPTS = {
    "box": {"box": np.array([20, 15, 100.5, 80])},
    "point": {"point_coords": np.array([[70, 40]]), "point_labels": np.array([1])},
    "points": {
        "point_coords": np.array([[70, 40], [10.25, 80], [0, 0]]),
        "point_labels": np.array([1, 0, -1]),
    },
    "box and point": {
        "box": np.array([20, 15, 100.5, 80]),
        "point_coords": np.array([[70, 40]]),
        "point_labels": np.array([1]),
    },
    "mask": {
        "box": np.array([20, 15, 100.5, 80]),
        "mask_input": 4 * np.random.default_rng(1).standard_normal((1, 32, 32), np.float32),
    },
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("multimask_output", [True, False])
def test_predictions_equal_segment_anything(
    checkpoint, meta_sam, segment_anything, photo, prompt, multimask_output
):
    ours = SamPredictor(checkpoint)
    theirs = segment_anything.SamPredictor(meta_sam)
    for predictor in (ours, theirs):
        predictor.set_image(photo)
    assert_same_prediction(ours, theirs, 1e-5, **PROMPTS[prompt], multimask_output=multimask_output)


def test_every_norm_has_the_epsilon_of_segment_anything(meta_sam):
    state = meta_sam.state_dict()
    config, converted = convert_meta_state_dict(state)
    sources = {id(tensor): name.removesuffix(".weight") for name, tensor in state.items()}
    norms = {
        name: module for name, module in SamModel(config).named_modules() if hasattr(module, "eps")
    }
    expected = {
        name: meta_sam.get_submodule(sources[id(converted[f"{name}.weight"])]).eps for name in norms
    }
    assert {name: module.eps for name, module in norms.items()} == expected
    assert (
        len(norms) == 2 * 3 + 2 + 2 + 4 * 2 + 1 + 1
    )  # blocks, neck, masks, two-way, final, upscale


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads", "global_blocks"),
    [
        ("vit_b", 768, 12, 12, [2, 5, 8, 11]),
        ("vit_l", 1024, 24, 16, [5, 11, 17, 23]),
        ("vit_h", 1280, 32, 16, [7, 15, 23, 31]),
    ],
)
def test_released_geometries_are_recognised(
    segment_anything, name, width, depth, heads, global_blocks
):
    with torch.device("meta"):
        state = segment_anything.sam_model_registry[name]().state_dict()
    config, _ = convert_meta_state_dict(state)
    expected = SamConfig(
        vision_config={
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "global_attn_indexes": global_blocks,
            "mlp_dim": 4 * width,
        },
        mask_decoder_config={"layer_norm_eps": 1e-5},
    )
    assert config.to_diff_dict() == expected.to_diff_dict()


@pytest.mark.slow
@pytest.mark.coco
def test_vit_b_equals_segment_anything_on_a_photo(
    segment_anything, randomise_, coco_data, tmp_path
):
    meta_sam = segment_anything.sam_model_registry["vit_b"]().eval()
    randomise_(meta_sam)
    torch.save(meta_sam.state_dict(), tmp_path / "sam_vit_b.pth")
    image = read_image(list_images(coco_data)[0])
    ours = SamPredictor(tmp_path / "sam_vit_b.pth")
    theirs = segment_anything.SamPredictor(meta_sam)
    for predictor in (ours, theirs):
        predictor.set_image(image)
    mask_input = np.random.default_rng(1).standard_normal((1, 256, 256), np.float32)
    for prompt in [*list(PROMPTS.values())[:4], {**PROMPTS["box"], "mask_input": mask_input}]:
        assert_same_prediction(ours, theirs, 1e-4, **prompt)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load_as_float32(state, tmp_path, dtype):
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "half.pth")
    model = load_meta_checkpoint(tmp_path / "half.pth")
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    expected = state["image_encoder.pos_embed"].to(dtype).float()
    torch.testing.assert_close(model.vision_encoder.pos_embed.data, expected, rtol=0, atol=0)


def test_legacy_format_loads(state, tmp_path):
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_meta_checkpoint(tmp_path / "old.pth").config.vision_config.image_size == 64


def test_model_outlives_its_file(checkpoint, state):
    model = load_meta_checkpoint(checkpoint)
    checkpoint.write_bytes(bytes(checkpoint.stat().st_size))
    expected = state["image_encoder.pos_embed"]
    torch.testing.assert_close(model.vision_encoder.pos_embed.data, expected, rtol=0, atol=0)


def test_positional_embedding_stays_shared(checkpoint):
    model = load_meta_checkpoint(checkpoint)
    assert model.prompt_encoder.shared_embedding.positional_embedding is (
        model.shared_image_embedding.positional_embedding
    )


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_missing_file_is_refused(tmp_path):
    refused(lambda: load_meta_checkpoint(tmp_path / "none.pth"), "no file or", "none.pth")


def test_pickled_model_is_refused(meta_sam, tmp_path):
    torch.save(meta_sam, tmp_path / "model.pth")
    refused(lambda: load_meta_checkpoint(tmp_path / "model.pth"), "state dict")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"model": {"lr": 0.1}}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    refused(lambda: load_meta_checkpoint(tmp_path / "other.pth"), "expected a state dict")


def test_arrays_of_numpy_are_no_weights(state, tmp_path):
    torch.save({name: tensor.numpy() for name, tensor in state.items()}, tmp_path / "sam.pth")
    refused(lambda: load_meta_checkpoint(tmp_path / "sam.pth"), "no tensors of torch")


def test_weights_of_nothing_known_are_refused():
    refused(lambda: convert_meta_state_dict({"fc.weight": torch.ones(2)}), "lacks", "fc.weight")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("image_encoder.patch_embed.seq.0.c.weight", "MobileSAM"),
        ("image_encoder.trunk.body.stem.weight", "EdgeTAM"),
    ],
)
def test_other_models_are_refused_by_name(state, key, name):
    refused(lambda: convert_meta_state_dict({**state, key: torch.ones(1)}), name)


def test_mobile_sam_file_is_refused_by_name(tmp_path):
    prefix = "image_encoder.patch_embed.seq.0"
    state = {
        f"{prefix}.c.weight": torch.ones(1),
        f"{prefix}.bn.num_batches_tracked": torch.tensor(1),
    }
    torch.save(state, tmp_path / "mobile_sam.pt")
    refused(lambda: load_meta_checkpoint(tmp_path / "mobile_sam.pt"), "MobileSAM")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda tensor: tensor.to(torch.int8), "integers"),
        (lambda tensor: tensor > 0, "integers"),
        (lambda tensor: tensor.to(torch.complex64), "complex numbers"),
        (lambda tensor: tensor.to_sparse(), "sparse tensors"),
    ],
)
def test_other_numbers_are_named(state, change, kind):
    name = "mask_decoder.mask_tokens.weight"
    state[name] = change(state[name])
    refused(lambda: convert_meta_state_dict(state), f"{kind} as {name}")


def test_weights_without_values_are_named(state, tmp_path):
    state["mask_decoder.mask_tokens.weight"] = torch.ones(4, 32, device="meta")
    torch.save(state, tmp_path / "sam.pth")
    refused(
        lambda: load_meta_checkpoint(tmp_path / "sam.pth"),
        "no values of mask_decoder.mask_tokens.weight",
    )


def test_numbers_too_large_for_float32_are_named(state, tmp_path):
    state["mask_decoder.mask_tokens.weight"] = torch.full((4, 32), 1e300, dtype=torch.float64)
    torch.save(state, tmp_path / "sam.pth")
    refused(lambda: load_meta_checkpoint(tmp_path / "sam.pth"), "mask_decoder.mask_tokens.weight")


def test_missing_tensors_are_named(state):
    del state["mask_decoder.iou_token.weight"]
    refused(lambda: convert_meta_state_dict(state), "lacks mask_decoder.iou_token.weight;")


def test_first_of_many_missing_blocks_is_named(state):
    kept = {name: value for name, value in state.items() if "blocks" not in name}
    refused(lambda: convert_meta_state_dict(kept), "image_encoder.blocks.0")


def test_unexpected_tensors_are_named(state):
    extra = {f"adapter.{index}": torch.ones(1) for index in range(5)}
    refused(
        lambda: convert_meta_state_dict({**state, **extra}),
        "unknown adapter.0, adapter.1, adapter.2, adapter.3, adapter.4;",
    )


def test_wrong_shape_is_named(state):
    state["image_encoder.neck.1.bias"] = torch.ones(31)
    refused(lambda: convert_meta_state_dict(state), "image_encoder.neck.1.bias (found (31,), exp")


def test_second_window_size_is_refused(state):
    state["image_encoder.blocks.2.attn.rel_pos_h"] = torch.ones(7, 12)
    refused(lambda: convert_meta_state_dict(state), "windows of [3, 4]")


def test_other_pixel_mean_is_refused(state):
    state["pixel_mean"] = torch.tensor([0.5, 0.5, 0.5])
    refused(lambda: convert_meta_state_dict(state), "pixel_mean")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pixel_mean_of_sam_is_accepted(state, dtype):
    state["pixel_mean"] = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1).to(dtype)
    assert "pixel_mean" not in convert_meta_state_dict(state)[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weight_that_is_not_finite_is_named(state, tmp_path, value):
    state["mask_decoder.mask_tokens.weight"][0, 0] = value
    torch.save(state, tmp_path / "sam.pth")
    refused(lambda: load_meta_checkpoint(tmp_path / "sam.pth"), "mask_decoder.mask_tokens.weight")

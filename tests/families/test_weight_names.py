"""The SAM among the names of a file."""

import pytest
import torch

from carsam.errors import UserError
from carsam.families.weight_files import Contents
from carsam.families.weight_names import find_sam

SAM = {
    name: torch.tensor(float(number))
    for number, name in enumerate(
        (
            "image_encoder.blocks.0.attn.qkv.weight",
            "prompt_encoder.point_embeddings.0.weight",
            "mask_decoder.iou_token.weight",
        )
    )
}


def under(prefix, tensors=SAM):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def find(tensors, warnings=None):
    contents = Contents(tensors, dict.fromkeys(tensors, ""), tuple(tensors))
    return find_sam(contents, "f.pth", [].append if warnings is None else warnings.append)


def refused(tensors, *words):
    with pytest.raises(UserError) as caught:
        find(tensors)
    for word in ("f.pth", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "sam.",
        "_orig_mod.",
        "base_model.model.",
        "model.module.sam.",
        "_orig_mod.module.",
        "state_dict.net.sam_model.",
    ],
)
def test_any_prefix_is_taken_off(prefix):
    warnings = []
    assert find(under(prefix), warnings) == SAM
    assert not warnings


@pytest.mark.parametrize(
    "wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
)
def test_wrappers_of_parts_are_taken_off(wrapper):
    wrapped = {
        name.replace("encoder.", f"encoder.{wrapper}.").replace(
            ".attn.", f".{wrapper}.attn."
        ): value
        for name, value in SAM.items()
    }
    assert find(wrapped) == SAM


def test_a_part_that_alone_was_wrapped_is_found():
    names = {f"module.{name}" if "mask" in name else name: value for name, value in SAM.items()}
    assert find(names) == SAM


def test_names_of_transformers_are_found():
    state = {"vision_encoder.pos_embed": torch.ones(1), "shared_image_embedding.x": torch.ones(1)}
    assert find(under("sam.", state)) == state


def test_other_tensors_with_the_prefix_belong_to_the_sam():
    state = {**SAM, "pixel_mean": torch.ones(3)}
    assert find(under("module.", state)) == state


def test_tensors_of_another_mapping_are_left_out_without_a_word():
    tensors = {**under("model."), "metrics.iou": torch.ones(1)}
    holders = {name: name.partition(".")[0] for name in tensors}
    assert find_sam(Contents(tensors, holders, ("model", "metrics")), "f.pth", pytest.fail) == SAM


def test_tensors_outside_the_prefix_are_left_out_and_named():
    warnings = []
    assert find({**under("model."), "criterion.weight": torch.ones(1)}, warnings) == SAM
    assert warnings == ["f.pth holds more than a SAM; left out: criterion.weight."]


AVERAGED = {name: value + 1 for name, value in SAM.items()}


@pytest.mark.parametrize("average", ["ema", "model_ema", "ema_state_dict", "teacher", "swa_model"])
@pytest.mark.parametrize("first", [True, False])
def test_the_trained_model_comes_before_its_average(average, first):
    both = [under("model."), under(f"{average}.", AVERAGED)]
    warnings = []
    trained, averaged = both
    tensors = {**trained, **averaged} if first else {**averaged, **trained}
    assert find(tensors, warnings) == SAM
    assert len(warnings) == 1 and f"model is loaded, not {average}" in warnings[0]


def test_the_first_of_equals_is_loaded_and_the_others_are_named():
    warnings = []
    assert find({**under("b."), **under("a.", AVERAGED)}, warnings) == SAM
    assert "b is loaded, not a" in warnings[0]


def test_an_average_alone_is_loaded():
    warnings = []
    assert find(under("ema."), warnings) == SAM
    assert not warnings


def test_a_whole_sam_comes_before_a_part():
    part = {"image_encoder.pos_embed": torch.ones(1)}
    warnings = []
    assert find({**under("encoder.", part), **under("sam.")}, warnings) == SAM
    assert not warnings


def test_names_that_stand_twice_are_refused():
    refused({**SAM, **under("module.", AVERAGED)}, "twice", "module.image_encoder.blocks.0")


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.weight",
        "image_encoder.blocks.0.attn.qkv.lora_B.default.weight",
        "image_encoder.blocks.0.attn.qkv.base_layer.weight",
    ],
)
@pytest.mark.parametrize("state", [{}, SAM])
def test_adapters_are_refused(name, state):
    refused({**state, name: torch.ones(1)}, "adapters (LoRA)", name, "merge_and_unload")


def test_the_weights_of_a_run_are_refused():
    name = "vision_encoder.layers.0.attn.qkv.weight_packed"
    refused({name: torch.ones(1)}, "packed weights of a run", "carsam.json")


def test_a_file_without_a_sam_says_what_was_found():
    names = ("backbone.conv.weight", "head.weight", "head.bias", "norm.weight")
    state = dict.fromkeys(names, torch.ones(1))
    refused(
        state, "no SAM", "backbone.conv.weight, head.weight, head.bias, norm.weight;", "image_enc"
    )


def test_names_without_tensors_are_refused():
    with pytest.raises(UserError, match="names of a SAM, but no tensors"):
        find_sam(Contents({}, {}, tuple(SAM)), "f.pth", print)


def test_a_whole_model_is_refused_with_advice():
    with pytest.raises(UserError, match=r"whole pickled model \(of a\.Sam\).*state_dict\(\)"):
        find_sam(Contents({}, {}, ("model",), ("a.Sam",), True), "f.pth", print)

"""Float models from files and folders: exactly the weights that were saved, or a sentence."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from carsam.errors import UserError
from carsam.families import load_model

WEIGHTS = "model.safetensors"
TIED = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def rewrite(folder, change):
    """Apply `change` to the weights of a folder."""
    state = change(load_file(folder / WEIGHTS))
    save_file(state, folder / WEIGHTS, {"format": "pt"})


def configure(folder, **changes):
    """Change entries of a folder's config.json; None removes one."""
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def refused(source, *words):
    with pytest.raises(UserError) as caught:
        load_model(source, pytest.fail)
    for word in (str(source), *words):
        assert word in str(caught.value)


# Folders of transformers


def test_a_folder_loads_what_was_saved(sam_folder, sam_state, assert_tensors):
    family, model = load_model(sam_folder, pytest.fail)
    assert family.name == "sam" and not model.training
    assert_tensors(model, sam_state)


def test_a_folder_loads_as_transformers_loads_it(sam_folder):
    from transformers import SamModel

    theirs = SamModel.from_pretrained(str(sam_folder), dtype=torch.float32)
    assert load_model(sam_folder)[1].config.to_dict() == theirs.config.to_dict()


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "sam.", "_orig_mod.", "base_model.model.", "model.module."]
)
def test_prefixes_in_a_folder_are_taken_off(sam_folder, sam_state, assert_tensors, prefix):
    rewrite(sam_folder, lambda state: under(prefix, state))
    assert_tensors(load_model(sam_folder, pytest.fail)[1], sam_state)


def test_missing_weights_are_refused_by_name(sam_folder):
    lost = "vision_encoder.layers.0."
    rewrite(sam_folder, lambda state: {k: v for k, v in state.items() if not k.startswith(lost)})
    refused(sam_folder, f"lacks {lost}layer_norm1.weight", "and 9 more")


def test_one_missing_weight_is_refused_by_name(sam_folder):
    name = "mask_decoder.iou_token.weight"
    rewrite(sam_folder, lambda state: {k: v for k, v in state.items() if k != name})
    refused(sam_folder, f"lacks {name};")


def test_unknown_weights_are_refused_by_name(sam_folder):
    rewrite(sam_folder, lambda state: {**state, "mask_decoder.extra.weight": torch.ones(1)})
    refused(sam_folder, "has the unknown mask_decoder.extra.weight;")


def test_misshaped_weights_are_refused_with_both_shapes(sam_folder):
    name = "mask_decoder.iou_token.weight"
    rewrite(sam_folder, lambda state: {**state, name: torch.ones(1, 16)})
    refused(sam_folder, f"wrong shape of {name} (found (1, 16), expected (1, 32))")


def test_weights_that_are_not_finite_are_refused_by_name(sam_folder):
    name = "shared_image_embedding.positional_embedding"
    rewrite(sam_folder, lambda state: {**state, name: torch.full_like(state[name], torch.nan)})
    refused(sam_folder, f"NaN or infinity in {name}")


def test_integers_are_refused_by_name(sam_folder):
    name = "mask_decoder.iou_token.weight"
    rewrite(sam_folder, lambda state: {**state, name: torch.ones(1, 32, dtype=torch.int8)})
    refused(sam_folder, f"integers as {name}")


def test_adapters_among_the_weights_are_refused(sam_folder):
    name = "vision_encoder.layers.0.attn.qkv.lora_A.weight"
    rewrite(sam_folder, lambda state: {**state, name: torch.ones(4, 32)})
    refused(sam_folder, f"adapters (LoRA): {name}", "merge_and_unload")


@pytest.mark.parametrize("kept", [TIED, TIED[:1], TIED[1:]])
def test_one_of_two_shared_tensors_is_enough(sam_folder, sam_state, assert_tensors, kept):
    def keep(state):
        shared = {name: sam_state[name].clone() for name in kept}
        return {**{k: v for k, v in state.items() if k not in TIED}, **shared}

    rewrite(sam_folder, keep)
    model = load_model(sam_folder)[1]
    assert_tensors(model, sam_state)
    assert model.prompt_encoder.shared_embedding.positional_embedding is (
        model.shared_image_embedding.positional_embedding
    )


def test_none_of_two_shared_tensors_is_too_few(sam_folder):
    rewrite(sam_folder, lambda state: {k: v for k, v in state.items() if k not in TIED})
    refused(sam_folder, f"lacks {TIED[0]}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loads_as_float32(tiny_sam, tmp_path, sam_state, assert_tensors, dtype):
    tiny_sam.to(dtype).save_pretrained(tmp_path / "half")
    model = load_model(tmp_path / "half")[1]
    assert model.config.dtype == torch.float32
    assert_tensors(model, {name: tensor.to(dtype).float() for name, tensor in sam_state.items()})


def in_shards(folder, model):
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    return json.loads((folder / f"{WEIGHTS}.index.json").read_text())


def test_shards_load(sam_folder, tiny_sam, sam_state, assert_tensors):
    index = in_shards(sam_folder, tiny_sam)
    assert len(set(index["weight_map"].values())) > 1
    assert_tensors(load_model(sam_folder)[1], sam_state)


def test_shards_in_a_subfolder_load(sam_folder, tiny_sam, sam_state, assert_tensors):
    index = in_shards(sam_folder, tiny_sam)
    (sam_folder / "parts").mkdir()
    for name in set(index["weight_map"].values()):
        (sam_folder / name).rename(sam_folder / "parts" / name)
    index["weight_map"] = {key: f"parts/{name}" for key, name in index["weight_map"].items()}
    (sam_folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert_tensors(load_model(sam_folder)[1], sam_state)


def test_a_missing_shard_is_named(sam_folder, tiny_sam):
    index = in_shards(sam_folder, tiny_sam)
    lost = sorted(set(index["weight_map"].values()))[1]
    (sam_folder / lost).unlink()
    refused(sam_folder, f"lacks {lost}, which {WEIGHTS}.index.json names")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {"a": 1, "b": "c"}}'])
def test_an_index_that_lists_nothing_is_refused(sam_folder, content):
    (sam_folder / WEIGHTS).rename(sam_folder / "model-1.safetensors")
    (sam_folder / f"{WEIGHTS}.index.json").write_text(content)
    refused(sam_folder, "does not list files with weights")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_folder_with_a_file_of_torch_loads(sam_folder, sam_state, assert_tensors, zipped):
    (sam_folder / WEIGHTS).unlink()
    path = sam_folder / "pytorch_model.bin"
    torch.save(under("module.", sam_state), path, _use_new_zipfile_serialization=zipped)
    assert_tensors(load_model(sam_folder)[1], sam_state)


def test_weights_that_were_not_downloaded_are_named(sam_folder):
    (sam_folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(sam_folder, WEIGHTS, "git lfs pull")


def test_a_configuration_that_was_not_downloaded_is_named(sam_folder):
    (sam_folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(sam_folder, "config.json", "git lfs pull")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": "unheard-of"}'])
def test_a_foreign_configuration_is_refused(sam_folder, content):
    (sam_folder / "config.json").write_text(content)
    refused(sam_folder, "config.json is no configuration that transformers can read")


@pytest.mark.parametrize(
    ("model_type", "sentence"),
    [
        ("edgetam", r"RepViT.*timm.*Use a SAM 2\.1"),
        ("edgetam_video", r"RepViT.*timm.*Use a SAM 2\.1"),
        ("sam3", "finds objects by words.*sam3_tracker"),
    ],
)
def test_a_neighbour_is_refused_with_what_to_do(tmp_path, model_type, sentence):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / WEIGHTS).write_bytes(b"")
    with pytest.raises(UserError, match=f"type {model_type} are not supported.*{sentence}"):
        load_model(tmp_path)


def test_another_model_is_refused_before_its_weights_are_read(sam_folder):
    configure(sam_folder, model_type="bert")
    (sam_folder / WEIGHTS).write_bytes(b"")
    with pytest.raises(UserError, match="type bert are not supported; expected one of sam, sam_hq"):
        load_model(sam_folder)


def test_a_configuration_of_another_size_is_refused(sam_folder):
    vision = json.loads((sam_folder / "config.json").read_text())["vision_config"]
    configure(sam_folder, vision_config={**vision, "num_hidden_layers": 4})
    refused(sam_folder, "lacks vision_encoder.layers.3.")


def test_a_configuration_of_no_possible_model_is_refused(sam_folder):
    vision = json.loads((sam_folder / "config.json").read_text())["vision_config"]
    configure(sam_folder, vision_config={**vision, "patch_size": 0})
    refused(sam_folder, "config.json describes no model")


def test_metas_names_in_a_folder_of_transformers_are_named(sam_folder, meta_state):
    save_file(meta_state, sam_folder / WEIGHTS)
    refused(sam_folder, "names of segment-anything", "path of the file")


# Files


@pytest.mark.parametrize("name", ["sam.pth", "SAM.PTH", "last.ckpt", "pytorch_model.bin", "sam"])
def test_a_file_with_metas_names_loads(meta_state, sam_state, tmp_path, assert_tensors, name):
    torch.save(meta_state, tmp_path / name)
    assert_tensors(load_model(tmp_path / name, pytest.fail)[1], sam_state)


def test_safetensors_with_metas_names_load(meta_state, sam_state, tmp_path, assert_tensors):
    save_file(meta_state, tmp_path / "sam.safetensors")
    assert_tensors(load_model(tmp_path / "sam.safetensors", pytest.fail)[1], sam_state)


WRAPPINGS = {
    "MedSAM": lambda state: {"model": under("module.", state), "optimizer": {}, "epoch": 3},
    "micro-sam": lambda state: {"model_state": under("sam.", state), "epoch": 3},
    "Lightning": lambda state: {
        "state_dict": under("model.", state),
        "epoch": 3,
        "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(1)}}}],
    },
    "best score": lambda state: {"model": state, "best_score": np.float64(0.9)},
    "DeepSpeed": lambda state: {"module": state, "global_steps": 3},
    "by part": lambda state: {
        part: {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in state.items()
            if name.startswith(f"{part}.")
        }
        for part in ("image_encoder", "prompt_encoder", "mask_decoder")
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_what_training_scripts_save_loads(
    meta_state, sam_state, tmp_path, assert_tensors, wrapping
):
    torch.save(WRAPPINGS[wrapping](meta_state), tmp_path / "sam.pth")
    assert_tensors(load_model(tmp_path / "sam.pth", pytest.fail)[1], sam_state)


def test_a_choice_among_several_models_is_told(meta_state, sam_state, tmp_path, assert_tensors):
    average = {name: tensor + 1 for name, tensor in meta_state.items()}
    torch.save({"ema": average, "model": meta_state}, tmp_path / "sam.pth")
    with pytest.warns(UserWarning, match="model is loaded, not ema"):
        model = load_model(tmp_path / "sam.pth")[1]
    assert_tensors(model, sam_state)


@pytest.mark.parametrize("name", [WEIGHTS, "best.pth", "renamed.safetensors"])
def test_a_file_beside_its_configuration_loads_as_the_folder(
    sam_folder, sam_state, assert_tensors, name
):
    path = sam_folder / name
    if path.suffix == ".pth":
        torch.save({"model": under("module.", sam_state)}, path)
    else:
        (sam_folder / WEIGHTS).rename(path)
    model = load_model(path, pytest.fail)[1]
    assert_tensors(model, sam_state)
    assert model.config.mask_decoder_config.num_attention_heads == 4


def test_another_models_configuration_beside_a_file_does_not_count(sam_folder, meta_state):
    configure(sam_folder, model_type="bert")
    torch.save(meta_state, sam_folder / "sam.pth")
    assert load_model(sam_folder / "sam.pth")[0].name == "sam"


def test_transformers_names_without_a_configuration_load_from_the_shapes(
    sam_state, tmp_path, assert_tensors
):
    torch.save(sam_state, tmp_path / "sam.pth")
    with pytest.warns(UserWarning, match=r"does not say how many heads .* 8 are assumed"):
        model = load_model(tmp_path / "sam.pth")[1]
    assert_tensors(model, sam_state)
    assert model.config.vision_config.num_attention_heads == 4
    assert model.config.mask_decoder_config.layer_norm_eps == 1e-6


def test_the_released_width_leaves_no_doubt_about_the_heads(tmp_path):
    from transformers import SamConfig, SamModel

    vision = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"mlp_dim": 8, "image_size": 64, "window_size": 2, "global_attn_indexes": [1]}
    prompts = {"image_size": 64}
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompts))
    torch.save(model.state_dict(), tmp_path / "sam.pth")
    loaded = load_model(tmp_path / "sam.pth", pytest.fail)[1]
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()


def test_a_tuned_sam_mini_keeps_its_heads(tmp_path, assert_tensors):
    mini = load_model("sam-mini")[1]
    state = {name: tensor + 1 for name, tensor in mini.state_dict().items()}
    torch.save({"model": under("module.", state)}, tmp_path / "tuned.pth")
    model = load_model(tmp_path / "tuned.pth", pytest.fail)[1]
    assert_tensors(model, state)
    heads = mini.config.mask_decoder_config.num_attention_heads
    assert model.config.mask_decoder_config.num_attention_heads == heads


def test_a_file_of_a_part_says_what_is_missing(meta_state, tmp_path):
    part = {name: tensor for name, tensor in meta_state.items() if "mask_decoder" in name}
    torch.save(part, tmp_path / "decoder.pth")
    refused(tmp_path / "decoder.pth", "lacks image_encoder.patch_embed.proj.weight")


# Models in memory


def test_a_model_without_values_is_refused(tiny_sam):
    with pytest.raises(UserError, match="holds no values of shared_image_embedding"):
        load_model(tiny_sam.to("meta"))


def test_a_model_with_nan_is_refused(tiny_sam):
    tiny_sam.mask_decoder.iou_token.weight.data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"NaN or infinity in mask_decoder\.iou_token\.weight"):
        load_model(tiny_sam)

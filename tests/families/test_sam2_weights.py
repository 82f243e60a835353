"""SAM 2's weights under the names of Meta and transformers."""

import json

import pytest
import torch

from carsam.errors import UserError
from carsam.families import load_model
from carsam.families.registry import empty_model
from carsam.families.sam2.meta_names import POINTS, meta_names
from carsam.families.sam2.weights import FLAGS_2_1, METAS_PATCHES, _infer_config


def metas(model):
    """The tensors of a model under Meta's names."""
    names = meta_names(model.state_dict())
    state = {names[name]: tensor for name, tensor in model.state_dict().items()}
    points = state.pop(f"{POINTS}.weight")
    return state | {f"{POINTS}.{index}.weight": row[None] for index, row in enumerate(points)}


@pytest.fixture
def metas_state(tiny_sam2):
    """The tensors under Meta's names, with a few of those that only videos need."""
    more = {"memory_attention.layers.0.norm1.weight": torch.ones(32)}
    return metas(tiny_sam2) | {"maskmem_tpos_enc": torch.zeros(7, 1, 1, 64)} | more


def write(state, folder, config=None):
    folder.mkdir(exist_ok=True)
    torch.save({"model": state}, folder / "sam2.pt")
    if config is not None:
        config.save_pretrained(folder)
    return folder / "sam2.pt"


def test_a_folder_of_transformers_loads(tiny_sam2, tmp_path, assert_tensors):
    tiny_sam2.save_pretrained(tmp_path / "sam2")
    family, model = load_model(tmp_path / "sam2", pytest.fail)
    assert family.name == "sam2"
    assert_tensors(model, tiny_sam2.state_dict())


def test_a_folder_for_videos_loads_whole(tiny_sam2_video, tmp_path, assert_tensors):
    tiny_sam2_video.save_pretrained(tmp_path / "video")
    family, model = load_model(tmp_path / "video", pytest.fail)
    assert family.name == "sam2_video"
    assert_tensors(model, tiny_sam2_video.state_dict())


def test_a_file_of_meta_for_videos_loads_whole(tiny_sam2_video, tmp_path, assert_tensors):
    path = write(metas(tiny_sam2_video), tmp_path / "meta", tiny_sam2_video.config)
    family, model = load_model(path, pytest.fail)
    assert family.name == "sam2_video"
    assert_tensors(model, tiny_sam2_video.state_dict())
    assert not any(buffer.is_meta for buffer in model.buffers())


@pytest.mark.parametrize("newer", [True, False])
def test_the_two_versions_need_their_own_configurations(tiny_sam2_video, tmp_path, newer):
    state, config = metas(tiny_sam2_video), tiny_sam2_video.config
    for flag in FLAGS_2_1:
        setattr(config, flag, newer)
    older = {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(("no_obj_embed_spatial", "obj_ptr_tpos_proj"))
    }
    path = write(older if newer else state, tmp_path / "meta", config)
    found, expected = ("SAM 2.0", "SAM 2.1") if newer else ("SAM 2.1", "SAM 2.0")
    with pytest.raises(UserError, match=f"tensors of {found}, but its configuration .* {expected}"):
        load_model(path)
    family, model = load_model(write(state if newer else older, tmp_path / "right", config))
    assert family.name == "sam2_video"
    assert (model.occlusion_spatial_embedding_parameter is not None) == newer


def test_a_file_of_meta_loads_with_the_configuration_beside_it(
    tiny_sam2, metas_state, tmp_path, assert_tensors
):
    path = write(metas_state, tmp_path / "meta", tiny_sam2.config)
    said = []
    family, model = load_model(path, said.append)
    assert family.name == "sam2"
    assert_tensors(model, tiny_sam2.state_dict())
    assert said == [f"{path} can segment videos too; only what images need is loaded."]


def test_an_unknown_size_needs_its_configuration(metas_state, tmp_path):
    path = write(metas_state, tmp_path / "meta")
    with pytest.raises(UserError, match=r"width 16 and 7 blocks.*144 and 48.*config\.json"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("sam_mask_decoder.conv_s0.weight"), r"lacks sam_mask_decoder\.conv_s0"),
        (lambda s: s.pop(f"{POINTS}.2.weight"), r"lacks sam_prompt_encoder\.point_embeddings"),
        (lambda s: s.update({"image_encoder.trunk.x": torch.ones(1)}), "has the unknown"),
        (lambda s: s.update({"sam_mask_decoder.y.weight": torch.ones(1)}), "has the unknown"),
        (lambda s: s.update({"no_mem_embed": torch.ones(1, 1, 7)}), "wrong shape of no_mem_embed"),
    ],
)
def test_tensors_that_are_not_those_of_one_sam2_are_refused(
    tiny_sam2, metas_state, tmp_path, change, message
):
    change(metas_state)
    path = write(metas_state, tmp_path / "meta", tiny_sam2.config)
    with pytest.raises(UserError, match=message):
        load_model(path, lambda _: None)


@pytest.mark.parametrize(
    ("width", "depth", "millions"),
    [(96, 12, 31.44), (96, 16, 38.54), (112, 24, 73.33), (144, 48, 216.92)],
)
def test_the_released_sizes_are_known_by_width_and_depth(width, depth, millions, tmp_path):
    state = {METAS_PATCHES: torch.empty(width, 3, 7, 7, device="meta")}
    state[f"image_encoder.trunk.blocks.{depth - 1}.norm1.weight"] = torch.empty(1, device="meta")
    model = empty_model(_infer_config(state, "file", video=False))
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found / 1e6 == pytest.approx(millions, abs=0.01)


def test_edgetam_is_refused_by_name(tmp_path):
    state = {
        "image_encoder.trunk.body.stem.0.weight": torch.ones(1),
        "sam_mask_decoder.x": torch.ones(1),
    }
    with pytest.raises(UserError, match=r"EdgeTAM.*expected those of SAM, SAM-HQ or SAM 2"):
        load_model(write(state, tmp_path / "edge"))


def test_a_configuration_of_other_sizes_is_told(tiny_sam2, metas_state, tmp_path):
    path = write(metas_state, tmp_path / "meta", tiny_sam2.config)
    config = json.loads((path.parent / "config.json").read_text())
    config["vision_config"]["backbone_config"]["blocks_per_stage"] = [1, 1, 2, 2]
    (path.parent / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"lacks image_encoder\.trunk\.blocks\.4\.proj"):
        load_model(path, lambda _: None)

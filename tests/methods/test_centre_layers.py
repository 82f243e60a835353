"""Constants of the decoder's inputs, taken out before they are rounded."""

import numpy as np
import pytest
import torch

import carsam
from carsam.engines.native_engine import NativeEngine
from carsam.engines.torch_engine import TorchEngine
from carsam.errors import UserError
from carsam.formats.checkpoint import Checkpoint
from carsam.images.prompts import Prompts
from carsam.methods.steps.folding.centre_layers import CentreLayers
from carsam.simulation import slots
from carsam.simulation.centre import ChannelCentre, PlaceCentre, TokenCentre
from carsam.simulation.model import from_checkpoint

BLOCK = "mask_decoder.transformer.layers.1"
UNITS = [
    (f"{BLOCK}.self_attn", {"q_proj": "tokens", "k_proj": "tokens", "v_proj": "tokens"}),
    (f"{BLOCK}.cross_attn_token_to_image", {"q_proj": "tokens", "k_proj": "places"}),
    (f"{BLOCK}.mlp", {"lin1": "tokens", "lin2": "tokens"}),
    (f"{BLOCK}.cross_attn_image_to_token", {"q_proj": "places", "k_proj": "tokens"}),
]
POINTS = np.array([[[10, 20], [33, 50]], [[50, 60], [1, 2]]], np.float32)
LABELS = np.array([[1, 0], [1, 1]])
BOXES = np.array([[3, 4, 40, 60], [8, 1, 60, 22]], np.float32)
MASKS = np.random.default_rng(3).normal(size=(2, 32, 32)).astype(np.float32)
PROMPTS = {
    "boxes": Prompts(boxes=BOXES),
    "more tokens": Prompts(points=POINTS, labels=LABELS, boxes=BOXES),
    "masks": Prompts(boxes=BOXES, masks=MASKS),
}


def outputs(unit):
    states = [unit.plan.run(unit.model, state) for state in unit.inputs]
    return torch.cat([s[name].flatten() for s in states for name in unit.plan.outputs])


def entering(unit, site):
    """What the quantizer of a layer is given, (groups, tokens, channels)."""
    seen = []
    handle = slots.quantizer(unit.model, site, "input").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].flatten(0, -3))
    )
    outputs(unit)
    handle.remove()
    return torch.cat(seen)


@torch.no_grad()
@pytest.mark.parametrize(("path", "kinds"), UNITS)
def test_leaves_the_float_output(make_unit, path, kinds) -> None:
    unit = make_unit(path)
    before = outputs(unit)
    CentreLayers().run_(unit)
    found = {site.path: slots.weight_layer(unit.model, site) for site, _ in unit.sites}
    centres = {p: layer.centre for p, layer in found.items() if layer is not None}
    for name, kind in kinds.items():
        assert centres[f"{path}.{name}"].name == kind
    # Tables are kept in fp16.
    assert (outputs(unit) - before).abs().max() < 2e-3 * before.abs().max()
    assert not torch.equal(outputs(unit), before)


@torch.no_grad()
def test_what_is_left_has_no_mean_for_any_own_token(make_unit) -> None:
    unit = make_unit(f"{BLOCK}.mlp")
    site = next(site for site, _ in unit.sites if site.path.endswith("lin1"))
    before = entering(unit, site)
    CentreLayers().run_(unit)
    left = entering(unit, site)
    own = site.own_tokens
    assert own == 5  # of the IoU and of four masks
    assert left[:, :own].mean(0).abs().max() < 1e-3 * before.abs().max()
    assert left[:, own:].mean((0, 1)).abs().max() < 1e-3 * before.abs().max()
    assert left.var() < before.var()
    statistics = unit.statistics[site.path, "input"]
    assert min(statistics.lows) == pytest.approx(float(left.min()))


@torch.no_grad()
def test_image_tokens_lose_their_positions(make_unit) -> None:
    unit = make_unit(f"{BLOCK}.cross_attn_image_to_token")
    site = next(site for site, _ in unit.sites if site.path.endswith("q_proj"))
    image = torch.cat([state["image"].flatten(0, -3) for state in unit.inputs])
    CentreLayers().run_(unit)
    assert torch.allclose(entering(unit, site), image, atol=1e-5)


@torch.no_grad()
def test_the_neck_s_maps_lose_their_channels_means(make_unit) -> None:
    unit = make_unit("vision_encoder.neck")
    before = outputs(unit)
    CentreLayers().run_(unit)
    assert (outputs(unit) - before).abs().max() < 2e-3 * before.abs().max()
    for site, _ in unit.sites:
        seen = []
        handle = slots.quantizer(unit.model, site, "input").register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0])
        )
        outputs(unit)
        handle.remove()
        assert torch.cat(seen).mean((0, 2, 3)).abs().max() < 1e-2


@torch.no_grad()
@pytest.mark.parametrize("path", ["vision_encoder.layers.1.attn", "vision_encoder.layers.0.mlp"])
def test_means_move_out_of_norms(make_unit, path) -> None:
    unit = make_unit(path)
    before = outputs(unit)
    CentreLayers().run_(unit)
    assert (outputs(unit) - before).abs().max() < 2e-3 * before.abs().max()
    site = next(site for site, _ in unit.sites)
    assert entering(unit, site).mean((0, 1)).abs().max() < 1e-3
    layers = [slots.weight_layer(unit.model, site) for site, _ in unit.sites]
    assert not any(layer.centre for layer in layers if layer is not None)


@torch.no_grad()
def test_norms_before_padded_windows_keep_their_means(make_unit) -> None:
    unit = make_unit("vision_encoder.layers.0.attn")
    before = outputs(unit)
    CentreLayers().run_(unit)
    assert torch.equal(outputs(unit), before)


def test_fewer_taps_read_the_mean_near_the_border() -> None:
    weight = torch.arange(18.0).reshape(2, 1, 3, 3)
    centre = ChannelCentre.of(torch.tensor([0.5]), weight)
    expected = torch.nn.functional.conv2d(torch.full((1, 1, 4, 3), 0.5), weight, padding=1)
    assert torch.equal(centre.product(torch.zeros(1, 1, 4, 3)), expected[0])


def test_all_places_read_the_mean_where_the_side_is_1() -> None:
    weight = torch.arange(6.0).reshape(2, 3, 1, 1)
    means = torch.tensor([0.5, -1.0, 2.0])
    centre = ChannelCentre.of(means, weight)
    inputs = torch.rand(1, 3, 4, 5)
    expected = torch.nn.functional.conv2d(inputs, weight)
    left = torch.nn.functional.conv2d(centre.removed_from(inputs), weight)
    torch.testing.assert_close(left + centre.product(inputs), expected)


def test_parts_can_be_left_out(make_unit) -> None:
    unit = make_unit(f"{BLOCK}.cross_attn_image_to_token")
    CentreLayers(tokens=False).run_(unit)
    layers = [slots.weight_layer(unit.model, site) for site, _ in unit.sites]
    kinds = [type(layer.centre) for layer in layers if layer is not None and layer.centre]
    assert kinds == [PlaceCentre]


def test_tokens_beyond_the_known_ones_share_a_mean() -> None:
    centre = TokenCentre.of(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[10.0]]))
    inputs = torch.full((2, 5, 1), 4.0)
    assert centre.removed_from(inputs)[0, :, 0].tolist() == [3, 2, 0, 0, 0]
    assert centre.product(inputs)[:, 0].tolist() == [10, 20, 40, 40, 40]


@pytest.fixture
def centred_run(tiny_sam, image_folder) -> Checkpoint:
    settings = ["polish.steps=2"]
    run = carsam.quantize(
        tiny_sam, image_folder, "carsam-plus", settings=settings, count=1, prompts_per_image=2
    )
    return run.to_checkpoint()


@pytest.mark.filterwarnings("ignore:.*Polish raised")
def test_the_native_engine_has_the_simulation_s_masks(centred_run) -> None:
    native = NativeEngine(centred_run)
    model = from_checkpoint(centred_run)
    simulated = TorchEngine(model.family, model.module, "simulated")
    pixels = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    embedding = native.encode(pixels)
    for name, prompts in PROMPTS.items():
        found = native.decode(embedding, prompts, True)
        expected = simulated.decode(embedding, prompts, True)
        for one, other in zip(found, expected, strict=True):
            assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max(), name


@pytest.mark.filterwarnings("ignore:.*Polish raised")
def test_a_checkpoint_of_another_shape_is_refused(centred_run) -> None:
    name = f"{BLOCK}.mlp.lin1.centre.means"
    tensors = {**centred_run.tensors, name: centred_run.tensors[name][:, 1:]}
    with pytest.raises(UserError, match=r"lin1.centre.means has shape .* Quantize the model again"):
        NativeEngine(Checkpoint(centred_run.manifest, tensors))

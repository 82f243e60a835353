import pytest
import torch

from carsam.methods.steps.folding.bimodal_integration import BimodalIntegration, count_peaks

PATH = "mask_decoder.transformer.layers.0.cross_attn_token_to_image"


@pytest.fixture
def unit(make_unit):
    return make_unit(PATH)


@torch.no_grad()
def make_bimodal_(unit):
    """Biases that put every channel of the keys far from 0, on either side."""
    layer = unit.model.get_submodule(f"{PATH}.k_proj").layer
    signs = torch.where(torch.arange(len(layer.bias)) % 3 == 0, -1.0, 1.0)
    layer.bias.copy_(10 * signs)
    return signs


def test_the_float_output_stays(unit):
    make_bimodal_(unit)
    before = unit.plan.run(unit.model, unit.inputs[0])["tokens"]
    BimodalIntegration().run_(unit)
    after = unit.plan.run(unit.model, unit.inputs[0])["tokens"]
    assert unit.notes[0]["flipped"] > 0
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_two_peaks_become_one(unit):
    make_bimodal_(unit)
    BimodalIntegration().run_(unit)
    assert unit.notes[0]["peaks"] == 2
    BimodalIntegration().run_(unit)
    assert unit.notes[1] == {**unit.notes[0], "peaks": 1, "flipped": 0}


def test_statistics_are_those_of_the_flipped_keys(unit):
    make_bimodal_(unit)
    BimodalIntegration().run_(unit)
    statistics = unit.statistics[PATH, "key"]
    assert min(statistics.lows) > 0
    assert float(statistics.histogram.counts.sum()) > 0


def test_keys_with_one_peak_stay(unit):
    layer = unit.model.get_submodule(f"{PATH}.k_proj").layer
    before = layer.weight.clone()
    BimodalIntegration().run_(unit)
    assert unit.notes[0]["peaks"] == 1
    assert torch.equal(layer.weight, before)


def test_only_token_to_image_attentions_are_touched(make_unit):
    unit = make_unit("mask_decoder.transformer.layers.0.self_attn")
    BimodalIntegration().run_(unit)
    assert unit.notes == []


@pytest.mark.parametrize("centres", [(0.0,), (-3.0, 3.0), (-6.0, 0.0, 6.0)])
def test_peaks_are_counted(centres):
    generator = torch.Generator().manual_seed(0)
    values = [centre + torch.randn(3000, generator=generator) * 0.5 for centre in centres]
    assert count_peaks(torch.cat(values), 128, 0.01, 32) == len(centres)


def test_a_constant_has_one_peak():
    assert count_peaks(torch.ones(10), 128, 0.01, 32) == 1

import pytest
import torch

from carsam.runtime import kernels
from carsam.simulation import arithmetic
from carsam.simulation.float_parts import Gelu, training

SETS = [] if training is None else training.usable_sets()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_gelu_has_the_engines_bits_and_torchs_slope(name, channels_last):
    before = kernels.instruction_set()
    kernels.use_instruction_set(name)
    values = torch.linspace(-9, 9, 2 * 3 * 5 * 7).view(2, 3, 5, 7)
    if channels_last:
        values = values.contiguous(memory_format=torch.channels_last)
    weights = torch.randn(values.shape)
    results = []
    for function in (Gelu(), torch.nn.functional.gelu):
        leaf = values.clone(memory_format=torch.preserve_format).requires_grad_()
        output = function(leaf)
        (output * weights).sum().backward()
        results.append((output.detach(), leaf.grad))
    kernels.use_instruction_set(before)
    (found, slope), (expected, exact) = results
    assert torch.equal(found, arithmetic.gelu(values))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(slope, exact, rtol=1e-5, atol=1e-6)

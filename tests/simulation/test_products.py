import pytest
import torch

from carsam.errors import UserError
from carsam.methods.registry import make_recipe
from carsam.simulation import products
from carsam.simulation.products import gradients_in, linear, matmul

CPU = torch.device("cpu")


@pytest.fixture
def bfloat16(monkeypatch):
    """Gradients in bfloat16, on any processor: slow ones multiply it too."""
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: True)
    with gradients_in("bfloat16", CPU):
        yield


def results(product, *operands):
    """The product, and the gradients of its operands."""
    operands = [operand.clone().requires_grad_() for operand in operands]
    output = product(*operands)
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    (output * weights).sum().backward()
    return output.detach(), *(operand.grad for operand in operands)


@pytest.mark.parametrize(
    ("product", "exact", "shapes"),
    [
        (linear, torch.nn.functional.linear, [(2, 5, 7, 12), (9, 12), (9,)]),
        (matmul, torch.matmul, [(3, 2, 7, 12), (1, 2, 12, 9)]),
    ],
)
def test_products_are_float32_and_their_gradients_nearly(product, exact, shapes, bfloat16):
    torch.manual_seed(0)
    operands = [torch.randn(shape) for shape in shapes]
    (output, *found), (expected, *gradients) = (results(p, *operands) for p in (product, exact))
    assert torch.equal(output, expected)
    for one, other in zip(found, gradients, strict=True):
        assert one.dtype == torch.float32
        error = float((one - other).norm() / other.norm())
        assert error < 0.01
        assert error > 0 or other.ndim == 1  # a bias gets the sum of float32


def test_a_weight_that_is_not_trained_costs_nothing(bfloat16):
    values, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    linear(values, weight, None).sum().backward()
    assert values.grad is not None
    assert weight.grad is None


def test_outside_gradients_are_float32():
    operands = [torch.randn(2, 5, 12), torch.randn(9, 12)]
    for one, other in zip(
        results(lambda *both: linear(*both, None), *operands),
        results(torch.nn.functional.linear, *operands),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_what_the_processor_does_not_multiply_is_refused(monkeypatch):
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: False)
    with pytest.raises(UserError, match="this processor does not multiply"):
        make_recipe("carsam", "w4a4", settings=("reconstruct.gradients=bfloat16",))
    with pytest.raises(UserError, match="expected one of auto, float32, bfloat16"):
        make_recipe("carsam-plus", "w4a4", settings=("polish.gradients=int8",))


@pytest.mark.parametrize(
    ("tiles", "bfloat16", "float16", "preferred"),
    [
        (True, True, True, True),  # AMX
        (False, True, True, False),  # AMX, hidden
        (False, True, False, True),  # Zen 4
        (False, False, False, False),
    ],
)
def test_bfloat16_is_preferred_where_it_is_faster(tiles, bfloat16, float16, preferred, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bfloat16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_fp16": float16})
    with gradients_in("auto", CPU):
        assert products._in_bfloat16.get() == preferred
    with gradients_in("float32", CPU):
        assert not products._in_bfloat16.get()

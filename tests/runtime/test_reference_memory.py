"""The operators of a video's memory with torch's arithmetic."""

import numpy as np
import pytest
import torch

from carsam.runtime import reference_memory
from carsam.runtime.grids import CodeGrid, Codes
from carsam.runtime.matrices import PackedMatrix
from carsam.runtime.positions import rotary_angles, sine_positions


def test_a_rotation_is_a_product_of_complex_numbers() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(30, 24)).astype(np.float32)
    cells = random.integers(-1, 7, 30, dtype=np.int32)
    angles = random.normal(size=(7, 4))
    cosines, sines = (function(angles).astype(np.float32) for function in (np.cos, np.sin))
    found = reference_memory.rotate(values, cells, cosines, sines)
    turns = np.where(cells[:, None] >= 0, np.exp(1j * angles[cells]), 1)[:, None]
    expected = values.reshape(30, 3, 4, 2).astype(np.float64) @ [1, 1j] * turns
    np.testing.assert_allclose(found.reshape(30, 3, 4, 2) @ [1, 1j], expected, atol=1e-6)
    np.testing.assert_array_equal(found[cells < 0], values[cells < 0])


@pytest.mark.parametrize("side", [3, 7])
def test_depthwise_is_a_convolution_with_groups(side) -> None:
    random = np.random.default_rng(side)
    grid = CodeGrid(np.float32(0.1), 5, 4)
    tensor = Codes(random.integers(0, 16, (6, 9, 10), dtype=np.uint8), grid)
    codes = random.integers(0, 8, (10, side * side), dtype=np.uint8)
    scale = random.uniform(0.1, 1, 10).astype(np.float32)
    weight = PackedMatrix.from_codes(codes, 3, scale, random.integers(0, 8, 10, dtype=np.uint8))
    bias = random.normal(size=10).astype(np.float32)
    image = torch.from_numpy(tensor.values()).permute(2, 0, 1)[None].double()
    kernel = torch.from_numpy(weight.values()).view(10, 1, side, side).double()
    expected = torch.nn.functional.conv2d(image, kernel, padding=side // 2, groups=10)
    found = reference_memory.depthwise(tensor, weight, bias)
    np.testing.assert_allclose(found - bias, expected[0].permute(1, 2, 0), atol=1e-4)


def test_positions_are_those_of_the_simulation() -> None:
    from transformers.models.sam2.modeling_sam2 import Sam2SinePositionEmbedding
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPositionEmbeddingSine

    from carsam.families.rotation import rotation
    from carsam.simulation.float_parts import reproduce_

    kinds = (Sam2SinePositionEmbedding, Sam2VideoPositionEmbeddingSine)
    model = torch.nn.ModuleList(kind(16, normalize=True) for kind in kinds)
    image = torch.Size((1, 32, 6, 6)), torch.device("cpu"), torch.float32
    near = [encoding(*image)[0].numpy() for encoding in model]
    reproduce_(model)
    found = sine_positions(6, 32).T.reshape(32, 6, 6)
    for encoding, other in zip(model, near, strict=True):
        np.testing.assert_array_equal(found, encoding(*image)[0].numpy())
        np.testing.assert_allclose(found, other, atol=1e-5)
    angles = rotary_angles(6, 24, 10000.0)
    tables = rotation(24, 10000.0, (6, 6), torch.device("cpu"))
    for function, table in zip((np.cos, np.sin), tables, strict=True):
        made = function(angles).astype(np.float32).repeat(2, axis=1)
        np.testing.assert_array_equal(made, table.numpy())

"""A small random SAM under the names of segment-anything and of transformers."""

import pytest


@pytest.fixture
def sam_state(tiny_sam):
    """The tensors of `tiny_sam` under transformers' names."""
    return {name: tensor.clone() for name, tensor in tiny_sam.state_dict().items()}


@pytest.fixture
def meta_state(sam_state):
    """The tensors of `tiny_sam` under Meta's names."""
    from carsam.families.meta_weights import meta_names

    names = meta_names(sam_state)
    return {names[name]: tensor for name, tensor in sam_state.items()}


@pytest.fixture
def sam_folder(tiny_sam, tmp_path):
    """`tiny_sam` as transformers saves it."""
    tiny_sam.save_pretrained(tmp_path / "sam")
    return tmp_path / "sam"


@pytest.fixture
def assert_tensors():
    """Function that compares a model's tensors with expected ones, exactly."""
    import torch

    def assert_tensors(model, expected):
        found = model.state_dict()
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)

    return assert_tensors

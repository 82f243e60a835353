"""A training that was stopped and resumed continues as if it had not been."""

import pytest

torch = pytest.importorskip("torch")


def tiny_training(state):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.LayerNorm(5))
    optimizers = [
        torch.optim.Muon([model[0].weight], lr=0.01),
        torch.optim.AdamW([model[0].bias, *model[1].parameters()], lr=0.01),
    ]
    return model, state.Average(model, 0.9), optimizers


def train_(model, average, optimizers, steps):
    for step in steps:
        inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        model.zero_grad()
        model(inputs).cumsum(-1).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
        average.update_(model, step)


def test_resuming_changes_nothing(tmp_path):
    import state

    whole = tiny_training(state)
    train_(*whole, range(6))
    first = tiny_training(state)
    train_(*first, range(3))
    state.save_state(tmp_path / "state.safetensors", 3, *first)
    second = tiny_training(state)
    done = state.load_state_(tmp_path / "state.safetensors", *second)
    train_(*second, range(done, 6))
    for name, parameter in whole[0].named_parameters():
        assert torch.equal(parameter, second[0].get_parameter(name))
        assert torch.equal(whole[1].parameters[name], second[1].parameters[name])


def test_the_averaged_weights_can_be_read_alone(tmp_path):
    import state

    training = tiny_training(state)
    train_(*training, range(2))
    state.save_state(tmp_path / "state.safetensors", 2, *training)
    found = state.averaged_weights(tmp_path / "state.safetensors")
    assert found.keys() == training[1].parameters.keys()
    assert all(torch.equal(found[name], training[1].parameters[name]) for name in found)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]

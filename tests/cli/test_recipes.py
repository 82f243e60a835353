from carsam.cli import main
from carsam.methods.registry import RECIPES


def test_recipes_lists_steps_and_parameters(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: units" in printed for name in RECIPES)
    assert "  reconstruct: steps=300" in printed

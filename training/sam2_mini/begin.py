"""Begin a run where the packaged weights end, from the folder `training`:

python -m sam2_mini.begin RUN --after masks
"""

import argparse
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import Sam2VideoModel

from carsam.families.sam2_mini import sam2_mini_config
from sam2_mini.export import PACKAGED
from sam2_mini.train import all_parts

PARTS = ("distil", "masks", "memory", "canvas", "together")


def begin(folder: Path, run: Path, last: str) -> None:
    """Write the states of finished parts, which `train` leaves as they are.

    A part whose recipe grows afterwards goes on from there, with moments of zero.

    Args:
        folder: of `export`, with `model.safetensors`.
        run: folder of the new run; states that it has already are kept.
        last: name of the part that was finished last.
    """
    weights = load_file(folder / "model.safetensors")
    run.mkdir(parents=True, exist_ok=True)
    parts = all_parts(Sam2VideoModel(sam2_mini_config()), run)
    for part in parts[: PARTS.index(last) + 1]:
        state = run / f"{part.name}.safetensors"
        if not state.exists():
            names = [name for name, _ in part.trained.named_parameters()]
            kinds = ("model", "average")
            tensors = {f"{kind}.{name}": weights[name].clone() for kind in kinds for name in names}
            save_file(tensors, state, {"step": str(part.recipe.steps)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--after", choices=PARTS, required=True)
    parser.add_argument("--folder", type=Path, default=PACKAGED)
    arguments = parser.parse_args()
    begin(arguments.folder, arguments.run, arguments.after)


if __name__ == "__main__":
    main()

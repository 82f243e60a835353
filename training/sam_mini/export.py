"""Put the averaged weights of a run into the package, from the folder `training`:

python -m sam_mini.export RUN/state.safetensors
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from state import averaged_weights

from carsam.families.mini import sam_mini_config

PACKAGED = Path(__file__).resolve().parents[2] / "src" / "carsam" / "models" / "sam-mini"


def export(state: Path, folder: Path = PACKAGED) -> None:
    """Write `model.safetensors` (float16) and `config.json`.

    Args:
        state: checkpoint of `train.py`.
        folder: where the two files are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in averaged_weights(state).items()
    }
    shared = (
        "shared_image_embedding.positional_embedding"  # transformers keeps a second name for it
    )
    weights["prompt_encoder.shared_embedding.positional_embedding"] = weights[shared].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    sam_mini_config().to_json_file(folder / "config.json", use_diff=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    export(parser.parse_args().state)


if __name__ == "__main__":
    main()

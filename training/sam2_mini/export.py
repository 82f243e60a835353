"""Put the averaged weights of a run into the package, from the folder `training`:

python -m sam2_mini.export RUN

Before the memory is trained this is a SAM 2 for images, without one.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam2Config, Sam2Model, Sam2VideoModel

from carsam.families.sam2_mini import sam2_mini_config
from sam2_mini.train import all_parts, load_averaged_

PACKAGED = Path(__file__).resolve().parents[2] / "src" / "carsam" / "models" / "sam2-mini"


def export(run: Path, folder: Path) -> list[str]:
    """Write `model.safetensors` (float16) and `config.json`.

    Args:
        run: folder of `train.py`; of the encoder and the decoder, parts that have no state yet have
            their initial weights.
        folder: where the two files are written.

    Returns:
        The names of the parts that have a state.
    """
    model = Sam2VideoModel(sam2_mini_config())
    found = []
    for part in all_parts(model, run):
        part.start_()
        state = run / f"{part.name}.safetensors"
        if state.exists():
            load_averaged_(model, state)
            found.append(part.name)
    folder.mkdir(parents=True, exist_ok=True)
    if "memory" not in found:
        model = _without_memory(model)
    weights = {
        name: tensor.to(torch.float16).clone() for name, tensor in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model.config.to_json_file(folder / "config.json", use_diff=True)
    return found


def _without_memory(model: Sam2VideoModel) -> Sam2Model:
    """The model of images that has the encoder and the decoder of a model of videos."""
    config = model.config
    parts = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    images = Sam2Model(Sam2Config(**{name: getattr(config, name).to_dict() for name in parts}))
    weights = model.state_dict()
    images.load_state_dict({name: weights[name] for name in images.state_dict()})
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=PACKAGED)
    arguments = parser.parse_args()
    found = export(arguments.run, arguments.out)
    print(f"{arguments.out}: averages of {', '.join(found) or 'nothing'}")


if __name__ == "__main__":
    main()

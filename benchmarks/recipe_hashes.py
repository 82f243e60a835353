"""Hash what every recipe makes of a small random SAM: its checkpoint, and both engines' masks.

    python benchmarks/recipe_hashes.py --out benchmarks/results/recipe_hashes.json

A change that must not change results is compared with the file of the commit before it. Training
is cut to a few steps: the hashes cover every step of every recipe, not its quality. They hold for
one processor and one version of torch and numpy, which the file names.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import SamConfig, SamModel

import carsam
from carsam.engines.load import load
from carsam.methods.registry import LEGACY_RECIPES, RECIPES

WIDTH, SIDE = 32, 64
FEW_STEPS = {"reconstruct": 6, "reconstruct-unfinished": 6, "polish": 6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", default=",".join((*RECIPES, *LEGACY_RECIPES)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        images = photos(Path(folder) / "images")
        hashes = {name: of_recipe(name, images) for name in arguments.recipes.split(",")}
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    report = {"processor": processor(), "versions": versions, "hashes": hashes}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


def of_recipe(name: str, images: Path) -> dict[str, str]:
    """Quantize with one recipe; return hashes of the tensors and of both engines' answers."""
    torch.manual_seed(0)  # legacy recipes drop values at random, outside of any seed of ours
    steps = [step.name for step in _steps(carsam.make_recipe(name, "w4a4"))]
    settings = [f"{step}.steps={few}" for step, few in FEW_STEPS.items() if step in steps]
    model = carsam.quantize(
        tiny_sam(),
        images,
        recipe=name,
        bits="w4a4",
        settings=settings,
        count=4,
        prompts_per_image=4,
        seed=0,
        device="cpu",
    )
    if name.endswith("-legacy"):  # cannot be saved: its weights are not rounded
        return {"parameters": _hash(p.detach().numpy() for p in model.module.parameters())}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        model.save(run)
        result = {
            "checkpoint": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
        }
        for engine in ("simulated", "native"):
            predictor = carsam.SamPredictor(load(run, engine=engine))
            predictor.set_image(images / "0.png")
            result[engine] = _hash(predictor.predict(box=[10, 10, 80, 70]))
    print(name, result["checkpoint"][:12], result["native"][:12], flush=True)
    return result


def tiny_sam() -> SamModel:
    """Return a random SAM with windowed and global blocks, whose weights are those of one seed."""
    model = SamModel(
        SamConfig(
            vision_config={
                "hidden_size": WIDTH,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "image_size": SIDE,
                "patch_size": 8,
                "output_channels": WIDTH,
                "window_size": 3,
                "global_attn_indexes": [1],
                "num_pos_feats": 16,
                "mlp_dim": 2 * WIDTH,
            },
            prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 8},
            mask_decoder_config={
                "hidden_size": WIDTH,
                "num_attention_heads": 4,
                "mlp_dim": 2 * WIDTH,
                "iou_head_hidden_dim": WIDTH,
            },
        )
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:
                tensor.copy_(0.2 * noise + name.endswith("weight"))  # weights of norms near 1
            elif "positional_e" in name:  # the random frequencies of coordinates
                tensor.copy_(noise)
            else:
                tensor.copy_(noise / max(1, tensor[0].numel()) ** 0.5)
    return model


def photos(folder: Path) -> Path:
    """Write four procedural pictures with shades, an edge and noise."""
    folder.mkdir()
    rows, columns = np.mgrid[:90, :120]
    shades = np.stack([rows * 2, columns * 2, rows + columns], axis=-1).astype(np.float64)
    shades[(rows - 40) ** 2 + (columns - 70) ** 2 < 500] = (220, 40, 90)
    shades += np.random.default_rng(0).normal(0, 10, shades.shape)
    picture = np.clip(shades, 0, 255).astype(np.uint8)
    for index in range(4):
        Image.fromarray(np.roll(picture, 20 * index, axis=1)).save(folder / f"{index}.png")
    return folder


def processor() -> str:
    """Return the processor's name as Linux gives it; empty elsewhere."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")


def _steps(recipe):
    return (*recipe.opening, *recipe.steps, *recipe.closing)


def _hash(arrays) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()

"""Train sam-mini from random weights, from the folder `training`:

    python -m sam_mini.train --data DIR --out RUN [--device auto]

Started again with the same RUN it continues from the last checkpoint.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from pictures import read_photographs, read_scenes
from recipe import TrainingRecipe
from samples import StepBatches
from state import Average, load_state_, save_state
from torch import nn
from torch.utils.data import DataLoader, Subset
from transformers import SamModel
from transformers.models.sam.modeling_sam import SamAttention

from carsam.families.mini import IMAGE_SIZE, sam_mini_config
from sam_mini.gradients import Gradients
from sam_mini.recipe import SAM_MINI

SAVE_EVERY = 200
LOG_EVERY = 25


def train(data: Path, out: Path, device: torch.device, recipe: TrainingRecipe = SAM_MINI) -> None:
    """Run the recipe, or what is left of it.

    Args:
        data: folder with `coco` and `extra`, see README.md.
        out: folder of this run; holds `state.safetensors`, `log.jsonl` and the scenes.
        device: where the model is trained.
        recipe: stages and settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = SamModel._from_config(
        sam_mini_config(), attn_implementation="eager"
    )  # twice as fast as sdpa here
    photographs = read_photographs(data)
    initialise_(model, recipe)
    model.to(device).train()
    average = Average(model, recipe.average_decay)
    optimizers = _optimizers(model, recipe)
    state = out / "state.safetensors"
    first = load_state_(state, model, average, optimizers) if state.exists() else 0
    batches = StepBatches(
        recipe, photographs, read_scenes(out / "scenes", recipe.scenes, recipe.seed)
    )
    loader = DataLoader(
        Subset(batches, range(first, recipe.steps)),
        batch_size=None,
        num_workers=1,
        prefetch_factor=8,
    )
    gradients = Gradients(model, device)
    started, sums = time.monotonic(), {}
    with (out / "log.jsonl").open("a") as log:
        for step, batch in enumerate(loader, first):
            torch.manual_seed(recipe.seed + step)
            correct = torch.rand(()).item() < recipe.stage(step).correction_probability
            watched = gradients.compute_(
                {name: tensor.to(device) for name, tensor in batch.items()}, correct
            )
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = recipe.learning_rate(step) * group["rate_factor"]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
            list(gradients.threads.map(lambda optimizer: optimizer.step(), optimizers))
            average.update_(model, step)
            for name, value in watched.items():
                total, count = sums.get(name, (0.0, 0))
                sums[name] = total + value, count + 1
            if (step + 1) % LOG_EVERY == 0:
                line = {"step": step + 1, "seconds": round(time.monotonic() - started, 1)}
                line |= {name: round(total / count, 4) for name, (total, count) in sums.items()}
                log.write(json.dumps(line) + "\n")
                log.flush()
                sums = {}
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
                save_state(state, step + 1, model, average, optimizers)


def initialise_(model: SamModel, recipe: TrainingRecipe) -> None:
    """Give the parts after the encoder weights of unit gain, and all parts a sense of position.

    With the default weights of 0.02 masks start, and stay long, at zero. With the default position
    table of zeros the image embedding does not know where it is; it starts as the decoder's
    position code. Queries and keys of the decoder's cross-attention start from the same projection,
    so that at first everything attends to what is near. The Fourier features run along x and y, as
    the edges of boxes do, with wavelengths down to one token or less, so that the place of an edge
    within its token can be read off. Otherwise prompts mean nothing for hundreds of
    steps, and small boxes little for thousands.
    """
    code = model.shared_image_embedding.positional_embedding  # 2 x features, cycles per half canvas
    with torch.no_grad():
        octaves = [math.log2(IMAGE_SIZE / 2 / wave) for wave in recipe.waves]
        frequencies = torch.logspace(*octaves, code.shape[1] // 2, base=2)
        code.copy_(torch.block_diag(frequencies[None], frequencies[None]))
    for part in (model.mask_decoder, model.prompt_encoder, model.vision_encoder.neck):
        for module in part.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
    for module in model.mask_decoder.transformer.modules():
        if isinstance(module, SamAttention):
            module.k_proj.weight.data.copy_(module.q_proj.weight)
    positions = model.get_image_wide_positional_embeddings().permute(
        0, 2, 3, 1
    )  # 1 x rows x columns x C'
    with torch.no_grad():
        model.vision_encoder.pos_embed[..., : positions.shape[-1]] = 0.5 * positions


def _optimizers(model: SamModel, recipe: TrainingRecipe) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for the rest; the random Fourier features stay as they are.

    Muon is two optimizers, for two threads: alone it would take a fifth of a step.
    """
    model.shared_image_embedding.positional_embedding.requires_grad_(False)
    matrices = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    chosen = {id(matrix) for matrix in matrices}
    others = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and id(parameter) not in chosen
    ]
    halves = [
        torch.optim.Muon(
            [{"params": half, "rate_factor": 1.0}],
            weight_decay=recipe.weight_decay,
            ns_steps=recipe.newton_schulz_steps,
            adjust_lr_fn="match_rms_adamw",
        )
        for half in (matrices[::2], matrices[1::2])
    ]
    return [
        *halves,
        torch.optim.AdamW(
            [{"params": others, "rate_factor": recipe.rate_of_others}],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    train(arguments.data, arguments.out, torch.device(device))


if __name__ == "__main__":
    main()

"""A folder that `from_pretrained` reads, written from a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.families import family_of
from carsam.formats.checkpoint import read_checkpoint, write_checkpoint
from carsam.formats.model_paths import CONFIG_FILE
from carsam.hugging_face.names import ENGINE_KEY, ENGINES, IMPORT_FIRST, METHOD
from carsam.images.preprocess import PIXEL_MEAN, PIXEL_STD

PROCESSOR_FILE = "preprocessor_config.json"
CARD_FILE = "README.md"

NAMES = {"sam": "Sam", "sam_hq": "SamHQ", "sam2": "Sam2", "sam2_video": "Sam2"}
"""First part of the names of transformers' model and processor for images, by family."""

OF_THE_FOLDER = ("format", "version", "weights_file")
"""Keys of a manifest that its writer sets."""


def export(run: str | Path, folder: str | Path, force: bool = False) -> None:
    """Write a folder from which transformers loads a run, whole or not at all.

    The folder is a run as well; beside the run's two files it holds what transformers and its
    processors read, and a page that says how to load it.

    Args:
        run: folder of the run, or the name of a bundled one.
        folder: to be written.
        force: replace an existing run or export.

    Raises:
        UserError: the run is none, or of a family that no such folder is written of, or the
            folder exists and `force` is not set, or cannot be written.
    """
    checkpoint = read_checkpoint(run)
    manifest = {k: v for k, v in checkpoint.manifest.items() if k not in OF_THE_FOLDER}
    if manifest["family"] not in NAMES:
        raise UserError(
            f"{run} is of family {manifest['family']}; folders for transformers are written "
            f"of the families {', '.join(NAMES)}."
        )
    beside = {
        CONFIG_FILE: _json(_configuration(checkpoint.manifest)),
        PROCESSOR_FILE: _json(_processor(manifest)),
        CARD_FILE: _card(manifest).encode(),
    }
    write_checkpoint(folder, manifest, checkpoint.tensors, force, beside)


def _configuration(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's configuration, what quantized it among it."""
    not_quantization = ("format", "model_config", "weights_file")
    said = {key: value for key, value in manifest.items() if key not in not_quantization}
    return {
        **manifest["model_config"],
        "architectures": [f"{NAMES[manifest['family']]}Model"],
        "dtype": "float32",
        ENGINE_KEY: ENGINES[0],
        "quantization_config": {"quant_method": METHOD, **said},
        "transformers_weights": IMPORT_FIRST,
    }


def _processor(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of transformers' image processor that fill the model's input."""
    from transformers import AutoConfig

    family = family_of(manifest["family"])
    framing = family.framing(AutoConfig.for_model(**manifest["model_config"]))
    square, mask = ({"height": side, "width": side} for side in (framing.side, framing.side // 4))
    settings = {
        "processor_class": f"{NAMES[family.name]}Processor",
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": 2,  # bilinear, as Pillow counts
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [round(float(mean) / 255, 6) for mean in PIXEL_MEAN],
        "image_std": [round(float(deviation) / 255, 6) for deviation in PIXEL_STD],
    }
    if framing.stretched:
        return {
            "image_processor_type": "Sam2ImageProcessor",
            **settings,
            "size": square,
            "mask_size": mask,
        }
    return {
        "image_processor_type": "SamImageProcessor",
        **settings,
        "size": {"longest_edge": framing.side},
        "mask_size": {"longest_edge": framing.side // 4},
        "do_pad": True,
        "pad_size": square,
        "mask_pad_size": mask,
    }


def _card(manifest: Mapping[str, Any]) -> str:
    recipe = manifest.get("recipe", {})
    return f"""---
library_name: transformers
pipeline_tag: mask-generation
tags: [carsam, 4-bit]
---

# {Path(manifest.get("source", "SAM")).name}, quantized

{recipe.get("bits", "")} by recipe `{recipe.get("name", "")}` of [CAR-SAM](https://arxiv.org/abs/2605.16901).

```python
import carsam.hugging_face  # pip install 'carsam[quantize]'; teaches transformers to read this
from transformers import AutoModelForMaskGeneration, AutoProcessor

model = AutoModelForMaskGeneration.from_pretrained("THIS FOLDER")  # or engine="native": integers
processor = AutoProcessor.from_pretrained("THIS FOLDER")
```

`carsam.SamPredictor("THIS FOLDER")` runs the same files without PyTorch.
"""


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()

"""Numbers of Meta's package sam2 on a seeded model, kept so that tests need not have it.

    python tests/sam2_reference.py    # writes sam2_reference.json; needs sam2 1.1.0

The model is SAM 2.1 tiny at 256 pixels, each tensor drawn from a seed made of its name.
"""

import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).with_suffix(".json")
SIDE, CELLS, POINTER_TOKENS = 256, 256, 12
RELEASED = {
    f"{version}_hiera_{size}": (version == "sam2.1", *shape)
    for version in ("sam2", "sam2.1")
    for size, shape in (("t", (96, 12)), ("s", (96, 16)), ("b+", (112, 24)), ("l", (144, 48)))
}
"""Meta's configurations -> whether they are of SAM 2.1, width and blocks of Hiera."""

SEEDED = "sam2.1_hiera_t"
DIGITS = 5

BOX = np.array([80.0, 60, 200, 150])
PROMPTS: dict[str, dict[str, Any]] = {
    "box": {"box": BOX, "multimask_output": False},
    "points": {
        "point_coords": np.array([[140.0, 100], [20, 30]]),
        "point_labels": np.array([1, 0]),
    },
    "point and box": {
        "point_coords": np.array([[140.0, 100]]),
        "point_labels": np.array([1]),
        "box": BOX,
    },
}
"""Arguments of both predictors, in pixels of the photo."""


def seeded(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Draw the tensors of a model by Meta's names."""
    return {name: _drawn(name, shape) for name, shape in shapes.items()}


def _drawn(name: str, shape: torch.Size) -> Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) == 1:
        return 0.2 * noise + name.endswith("weight")  # weights of norms near 1
    if "gaussian" in name:  # the random frequencies of coordinates
        return noise
    return 0.2 * noise if "pos_e" in name else noise / shape[1:].numel() ** 0.5


def names_digest(shapes: Mapping[str, torch.Size]) -> str:
    """Return SHA-256 over all names and shapes."""
    listed = sorted((name, list(shape)) for name, shape in shapes.items())
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def metas_shapes(name: str) -> dict[str, torch.Size]:
    """Return Meta's names and shapes of a released SAM 2, as we translate them."""
    from carsam.families.registry import empty_model
    from carsam.families.sam2.meta_names import POINTS, meta_names
    from carsam.families.sam2.weights import _infer_config

    newer, width, depth = RELEASED[name]
    few = {"image_encoder.trunk.patch_embed.proj.weight": torch.empty(width, 3, 7, 7)}
    few[f"image_encoder.trunk.blocks.{depth - 1}.norm1.weight"] = torch.empty(width)
    few |= {"no_obj_embed_spatial": torch.empty(1)} if newer else {}
    expected = empty_model(_infer_config(few, "file", video=True)).state_dict()
    found = {meta: expected[ours].shape for ours, meta in meta_names(expected).items()}
    count, width = found.pop(f"{POINTS}.weight")
    one = torch.Size([1, width])
    return found | {f"{POINTS}.{index}.weight": one for index in range(count)}


def seeded_model(change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> Any:
    """Return the seeded model as ours, with its tensors changed."""
    from carsam.families.registry import empty_model
    from carsam.families.sam2.weights import _infer_config, load_sam2

    state = change(seeded(metas_shapes(SEEDED)))
    config = _infer_config(state, "file", video=True)
    config.image_size = config.prompt_encoder_config.image_size = SIDE
    return load_sam2(state, empty_model(config), "file", print)


def photo() -> np.ndarray:
    """Return a procedural RGB image (240, 320, 3)."""
    rows, columns = np.mgrid[:240, :320]
    shades = np.stack([rows, columns // 2, (rows + columns) // 3], axis=-1)
    shades[(rows - 110) ** 2 + (columns - 140) ** 2 < 2500] = (220, 40, 90)
    return shades.astype(np.uint8)


def memory() -> tuple[Tensor, Tensor]:
    """Return values and positions (1, n, 64): two frames, then pointers."""
    values, positions = torch.randn(
        2, 1, 2 * CELLS + POINTER_TOKENS, 64, generator=torch.Generator().manual_seed(7)
    )
    return values, positions


def memory_mask() -> Tensor:
    """Return a mask (1, 1, S, S) as the memory encoder reads it."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = (rows - 100) ** 2 + (columns - 120) ** 2 < 4000
    return torch.from_numpy(20.0 * inside - 10)[None, None].float()


def sample(values: np.ndarray | Tensor) -> list[float]:
    """Return about 200 numbers of an array, rounded."""
    flat = np.asarray(values, np.float64).ravel()
    return [round(float(x), DIGITS) for x in flat[:: max(1, flat.size // 200)]]


def main() -> None:
    """Run Meta's package and write its numbers."""
    FILE.write_text(json.dumps(metas_numbers(), indent=1) + "\n")


@torch.inference_mode()
def metas_numbers() -> dict[str, Any]:
    """Return what Meta's package computes."""
    _stand_in_for_torchvision()
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    def build(name: str, *changes: str) -> Any:
        file = f"configs/{name.partition('_')[0]}/{name}.yaml"
        return build_sam2(file, ckpt_path=None, device="cpu", hydra_overrides_extra=[*changes])

    def shapes(model: Any) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in model.state_dict().items()}

    model = build(SEEDED, f"++model.image_size={SIDE}")
    model.load_state_dict(seeded(shapes(model)))
    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(SIDE // stride,) * 2 for stride in (4, 8, 16)]
    predictor.set_image(photo())
    digests = {name: names_digest(shapes(build(name))) for name in RELEASED}
    numbers: dict[str, Any] = {"names": digests}
    for name, prompt in PROMPTS.items():
        masks, ious, low_res = predictor.predict(**prompt, return_logits=True)
        numbers[name] = {"masks": sample(masks), "ious": sample(ious), "low_res": sample(low_res)}
    out = model.forward_image(predictor._transforms(photo())[None])
    image, places = out["backbone_fpn"][-1], out["vision_pos_enc"][-1]
    values, positions = (part.transpose(0, 1) for part in memory())
    recalled = model.memory_attention(
        curr=[image.flatten(2).permute(2, 0, 1)],
        curr_pos=[places.flatten(2).permute(2, 0, 1)],
        memory=values,
        memory_pos=positions,
        num_obj_ptr_tokens=POINTER_TOKENS,
    )
    remembered = model.memory_encoder(image, memory_mask(), skip_mask_sigmoid=True)
    numbers["recalled"] = sample(recalled[:, 0].T)  # (C, h * w)
    numbers["remembered"] = sample(remembered["vision_features"][0].flatten(1).T)
    return numbers


def _stand_in_for_torchvision() -> None:
    """Give sam2 what it uses of torchvision: `Resize` and `Normalize` of tensors, `ToTensor`."""

    class Resize(torch.nn.Module):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__()
            self.height, self.width = int(size[0]), int(size[1])

        def forward(self, image: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(
                image[None], size=[self.height, self.width], mode="bilinear", antialias=True
            )[0]

    class Normalize(torch.nn.Module):
        def __init__(self, mean: list[float], std: list[float]) -> None:
            super().__init__()
            self.mean, self.std = (torch.tensor(each)[:, None, None] for each in (mean, std))

        def forward(self, image: Tensor) -> Tensor:
            return (image - self.mean) / self.std

    class ToTensor:
        def __call__(self, image: np.ndarray) -> Tensor:
            return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255

    if "torchvision" in sys.modules:
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.ops", "torchvision.ops.boxes")
    modules = {name: ModuleType(name) for name in names}
    transforms: Any = modules["torchvision.transforms"]
    transforms.Resize, transforms.Normalize, transforms.ToTensor = Resize, Normalize, ToTensor
    boxes: Any = modules["torchvision.ops.boxes"]
    boxes.batched_nms = boxes.box_area = None
    sys.modules.update(modules)
    torch.jit.script = lambda module: module


if __name__ == "__main__":
    main()

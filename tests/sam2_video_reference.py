"""Masks that Meta's package sam2 follows with the seeded model of `sam2_reference`, kept likewise.

python tests/sam2_video_reference.py    # writes sam2_video_reference.json; needs sam2 1.1.0
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sam2_reference import SEEDED, SIDE, _stand_in_for_torchvision, photo, sample, seeded
from torch import Tensor

from carsam.images.preprocess import Framing
from carsam.video.frames import frame_pixels

FILE = Path(__file__).with_suffix(".json")
SCORE = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
MASK = np.zeros((240, 320), bool)
MASK[60:160, 90:190] = True
POINT: dict[str, Any] = {"points": [[140.0, 100.0]], "labels": [1]}
SCRIPT: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("add_new_mask", (1, 1, MASK), {}),
    ("add_new_points_or_box", (1, 5), {"box": [80.0, 60.0, 200.0, 150.0], **POINT}),
    ("propagate_in_video", (), {}),
    ("propagate_in_video", (), {"reverse": True}),
    ("add_new_points_or_box", (3, 1), POINT),
    ("propagate_in_video", (2,), {}),
)
"""Calls of both predictors: two objects, both directions, a correction."""


def frames() -> list[np.ndarray]:
    """Return a clip of five frames."""
    return [np.roll(photo(), (4 * time, 6 * time), (0, 1)) for time in range(5)]


def with_objects(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model that finds an object everywhere."""
    return {**state, SCORE: state[SCORE] + 20}


def played(predictor: Any, state: Any) -> Iterator[list[float]]:
    """Play the script; yield a sample of the logits after each call and each frame."""
    for name, given, options in SCRIPT:
        result = getattr(predictor, name)(state, *given, **options)
        for _, _, logits in result if name == "propagate_in_video" else [result]:
            yield sample(logits)


@torch.inference_mode()
def main() -> None:
    """Run Meta's package and write its numbers."""
    _stand_in_for_torchvision()
    from sam2.build_sam import build_sam2_video_predictor

    predictor = build_sam2_video_predictor(
        f"configs/sam2.1/{SEEDED}.yaml",
        device="cpu",
        hydra_overrides_extra=[
            f"++model.image_size={SIDE}",
            "++model.add_all_frames_to_correct_as_cond=true",
        ],
    )
    shapes = {name: tensor.shape for name, tensor in predictor.state_dict().items()}
    predictor.load_state_dict(with_objects(seeded(shapes)))
    predictor.fill_hole_area = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(frames()):
            Image.fromarray(image).save(f"{folder}/{index:05d}.jpg")
        state = predictor.init_state(folder)
    framing = Framing(SIDE, stretched=True)  # in place of what JPEG has made of the frames
    state["images"] = torch.from_numpy(np.stack([frame_pixels(f, framing) for f in frames()]))
    state["cached_features"] = {}
    FILE.write_text(json.dumps(list(played(predictor, state)), indent=None) + "\n")


if __name__ == "__main__":
    main()

"""How far native execution agrees with simulation on SAM 2's memory.

    python benchmarks/agreement_sam2_video.py [--model sam2-video-hiera-tiny] [--bits w4a4]
        [--side 1024] [--frames 50]
    python benchmarks/agreement_sam2_video.py --run RUN --video FRAMES --box X1 Y1 X2 Y2

Codes of every operand are compared while both engines recall a full memory, track and remember, of
random numbers. Then each engine follows an object by itself through a clip, its own masks and
memories feeding the next frame, and the masks' pixels are compared. The model has random weights,
and the clip shows noise, unless a run of `carsam quantize` and a video with a box are given.
`--side` makes the input smaller, `--frames 0` leaves the clip out. The numbers go to
benchmarks/results/agreement_sam2_video.json, one entry per model, bits and side, or run; those of
others that the file has already are kept."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from provenance import provenance
from random_runs import VIDEO, random_run

from carsam.benchmark.inputs import boxes, embedding
from carsam.diagnosis.codes import compare_codes_of
from carsam.engines.native_video_engine import native_engine
from carsam.engines.torch_video_engine import torch_engine
from carsam.engines.video import Recollection
from carsam.images.moving_camera import moving_camera
from carsam.simulation.model import QuantizedModel, load_simulated
from carsam.video.frames import open_frames
from carsam.video.predictor import SAM2VideoPredictor

NOISE_BOX = (80, 60, 240, 180)  # half of the width and of the height
TARGET = Path(__file__).parent / "results" / "agreement_sam2_video.json"
STEPS = {
    "recall": "memory_attention.",
    "track": ("mask_decoder.transformer.", "object_pointer_proj."),
    "remember": "memory_encoder.",
}
"""The sites that each step runs."""


def compared_steps(model: QuantizedModel, native: Any, side: int) -> dict[str, Any]:
    """Return how many codes differ in each step, of the same random numbers."""
    random, numbers, config = np.random.default_rng(0), native.memory, model.module.config
    cells, width = side // 16, config.memory_attention_hidden_size
    channels = numbers.frame_times.shape[1]
    pointers = numbers.pointers * width // channels
    places = np.tile(np.arange(cells * cells), numbers.frames)
    memory = Recollection(
        random.standard_normal((len(places) + pointers, channels), np.float32),
        random.standard_normal((len(places) + pointers, channels), np.float32),
        np.concatenate([places, np.full(pointers, -1)]),
    )
    shapes = (width, cells, cells), (width // 4, 2 * cells, 2 * cells)
    parts = embedding([*shapes, (width // 8, 4 * cells, 4 * cells)])
    mask = np.where(random.random((1, side, side)) < 0.5, -10, 10).astype(np.float32)
    runs = {
        "recall": lambda engine: engine.recall(parts, memory),
        "track": lambda engine: engine.track(parts, boxes(1, side), True),
        "remember": lambda engine: engine.remember(parts, mask, np.ones((1, 1), np.float32)),
    }
    result = {"keys": len(places) + pointers}
    for name, run in runs.items():
        sites = [site for site in model.sites if site.path.startswith(STEPS[name])]
        found = compare_codes_of(model, native, sites, run)
        result[name] = {
            "operands": len(found),
            "codes": sum(one.codes for one in found),
            "codes_differing": sum(one.differing for one in found),
        }
        print(f"{name}: {json.dumps(result[name])}", flush=True)
    return result


def followed(engine: Any, clip: Sequence[np.ndarray], box: Sequence[int]) -> Any:
    """Yield the mask of an object in each frame."""
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 0, 1, box=box)
    for _, _, logits in predictor.propagate_in_video(state):
        yield logits[0, 0] > 0


def noise(frames: int) -> list[np.ndarray]:
    """Frames of a camera that moves over noise."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = coarse.repeat(10, axis=0).repeat(10, axis=1)
    return list(moving_camera(picture, frames, random))


def opened(video: Path, count: int) -> list[np.ndarray]:
    """The first frames of a video."""
    frames = open_frames(video)
    return [frames[index] for index in range(min(count, len(frames)))]


def compared_masks(
    engines: tuple[Any, Any], clip: Sequence[np.ndarray], box: Sequence[int]
) -> dict[str, Any]:
    """Return how many pixels of the masks differ in a clip."""
    differing, covered = [], 0
    for one, other in zip(*(followed(engine, clip, box) for engine in engines), strict=True):
        differing.append(int((one != other).sum()))
        covered += int(one.sum())
        print(f"frame {len(differing) - 1}: {differing[-1]} pixels differ", flush=True)
    return {
        "frames": len(clip),
        "pixels": clip[0].size // 3 * len(clip),
        "pixels_covered": covered,
        "pixels_differing": sum(differing),
        "frames_differing": sum(count > 0 for count in differing),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam2-video-hiera-tiny", choices=VIDEO)
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--box", type=int, nargs=4, default=NOISE_BOX)
    given = parser.parse_args()
    if given.run is None:
        model = random_run(given.model, given.bits, given.side)
        name = f"{given.model} {given.bits} {given.side}"
    else:
        model, name = load_simulated(given.run), given.run.name
    native = native_engine(model.to_checkpoint())
    numbers = {"steps": compared_steps(model, native, native.framing.side)}
    if given.frames:
        simulated = torch_engine(model.family, model.module, "simulated")
        clip = noise(given.frames) if given.video is None else opened(given.video, given.frames)
        numbers["clip"] = compared_masks((native, simulated), clip, given.box)
    before = json.loads(TARGET.read_text())["runs"] if TARGET.exists() else {}
    origin = provenance("torch", "transformers", "numpy")
    runs = {**before, name: {"command": origin.pop("command"), **numbers}}
    TARGET.write_text(json.dumps({**origin, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""J and F on DAVIS without a memory: what a tracker has to beat.

    python benchmarks/video_baselines.py DAVIS [--model sam2-mini]

`copy` gives every frame the mask of the first one. `nearest features` gives each cell of a model's
image embedding the labels of the cells most like it in the first frame and the last few. Numbers
like those of `carsam evaluate --davis` go to benchmarks/results/video_baselines_<model>.json.
"""

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from provenance import provenance

from carsam.engines.base import Engine
from carsam.engines.load import load
from carsam.evaluation.davis.curves import measure_sequence
from carsam.evaluation.davis.result import DavisResult, SequenceResult
from carsam.evaluation.davis.sequences import Masks, VideoSequence, read_sequences
from carsam.images.preprocess import Frame
from carsam.images.read import read_image
from carsam.video.frames import frame_pixels

RESULTS = Path(__file__).parent / "results"
LAST_FRAMES = 4
NEAREST = 10
TEMPERATURE = 0.07  # of the cosines that weigh the nearest cells
REACH = 10  # cells along a side, between a cell and one like it in one of the last frames
YEAR = "2016"

Tracker = Callable[[VideoSequence], Iterator[tuple[int, Masks]]]


def copied(sequence: VideoSequence) -> Iterator[tuple[int, Masks]]:
    """Yield the first masks for each frame."""
    masks = {number: mask for number, (_, mask) in sequence.first_masks().items()}
    for place in range(len(sequence.frames)):
        yield place, masks


def nearest_features(engine: Engine) -> Tracker:
    """A tracker that reads nothing of a model but its image embedding."""

    def follow(sequence: VideoSequence) -> Iterator[tuple[int, Masks]]:
        first = sequence.first_masks()
        image = read_image(sequence.frames[0])
        frame = Frame(image.shape[:2], engine.framing)
        features = embedded(engine, image)
        side = features.shape[0]
        labels = np.stack([cells_of(mask, frame, side) for _, mask in first.values()], -1)
        labels = labels.reshape(side * side, -1)
        rows, columns = np.divmod(np.arange(side * side), side)
        far = (abs(rows[:, None] - rows) > REACH) | (abs(columns[:, None] - columns) > REACH)
        prompted = flat(features), labels
        last: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=LAST_FRAMES)
        yield 0, {number: mask for number, (_, mask) in first.items()}
        for place in range(1, len(sequence.frames)):
            features = flat(embedded(engine, read_image(sequence.frames[place])))
            likeness = [features @ prompted[0].T]
            likeness += [np.where(far, -2, features @ one.T) for one, _ in last]
            known = np.concatenate([prompted[1], *(label for _, label in last)])
            labels = weighed(np.concatenate(likeness, 1), known)
            last.append((features, labels))
            found = labels.reshape(side, side, -1)
            yield place, {n: mask_of(found[..., i], frame) for i, n in enumerate(first)}

    return follow


def embedded(engine: Engine, image: np.ndarray) -> np.ndarray:
    """Features (h, w, C) of a frame."""
    return np.moveaxis(engine.encode(frame_pixels(image, engine.framing))[0], 0, -1)


def flat(features: np.ndarray) -> np.ndarray:
    """Features (n, C) of length 1, without their mean over the frame."""
    rows = features.reshape(-1, features.shape[-1])
    rows = rows - rows.mean(0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def weighed(likeness: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels (n, objects) of cells, of their likeness (n, m) to cells with known labels."""
    nearest = np.argpartition(-likeness, NEAREST, 1)[:, :NEAREST]
    weights = np.exp((np.take_along_axis(likeness, nearest, 1) - 1) / TEMPERATURE)
    weights /= weights.sum(1, keepdims=True)
    return (weights[..., None] * labels[nearest]).sum(1)


def cells_of(mask: np.ndarray, frame: Frame, side: int) -> np.ndarray:
    """The share of every cell (side, side) that a mask (H, W) covers."""
    height, width = frame.input_size
    drawn = Image.fromarray(mask.astype(np.uint8) * 255)
    whole = Image.new("L", (frame.framing.side,) * 2)
    whole.paste(drawn.resize((width, height), Image.Resampling.BOX))
    return np.asarray(whole.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def mask_of(shares: np.ndarray, frame: Frame) -> np.ndarray:
    """The mask (H, W) of the shares of cells."""
    side = (frame.framing.side,) * 2
    height, width = frame.input_size
    whole = Image.fromarray(shares.astype(np.float32)).resize(side, Image.Resampling.BILINEAR)
    cut = whole.crop((0, 0, width, height))
    return np.asarray(cut.resize(frame.original_size[::-1], Image.Resampling.BILINEAR)) > 0.5


def measure(tracker: Tracker, sequences: list[VideoSequence]) -> dict[str, Any]:
    """J and F as `carsam evaluate --davis` measures them, of the sequences without the curves."""
    results = []
    for sequence in sequences:
        curves = measure_sequence(sequence, tracker(sequence))
        results.append(SequenceResult(sequence.name, len(sequence.frames), curves))
        print(f"{sequence.name}: J {np.mean(list(curves.J.values())):.4f}", flush=True)
    result = DavisResult.of(
        results, model="", mode="masks", year=YEAR, prompts="masks", resamples=1000, seed=0
    )
    facts = ("J_and_F", "J", "F", "intervals", "bootstrap")
    return {name: getattr(result, name) for name in facts} | {
        "sequences": {
            one.name: {
                measure: float(np.mean([np.mean(curve) for curve in curves.values()]))
                for measure, curves in (("J", one.curves.J), ("F", one.curves.F))
            }
            for one in results
        }
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("davis", type=Path)
    parser.add_argument("--model", default="sam2-mini")
    given = parser.parse_args()
    sequences = list(read_sequences(given.davis, YEAR, None))
    trackers = {"copy": copied, "nearest features": nearest_features(load(given.model))}
    document = provenance("numpy", "torch", "carsam") | {
        "model": given.model,
        "year": YEAR,
        "trackers": {name: measure(tracker, sequences) for name, tracker in trackers.items()},
    }
    target = RESULTS / f"video_baselines_{Path(given.model).name}.json"
    target.write_text(json.dumps(document, indent=1) + "\n")
    for name, numbers in document["trackers"].items():
        print(f"{name}: J&F {100 * numbers['J_and_F']:.1f}")


if __name__ == "__main__":
    main()

"""What a measurement on DAVIS found, as one json. `docs/video.md` documents every key."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from carsam.evaluation.bootstrap import (
    LEVEL,
    Interval,
    centred_interval,
    resample_weights,
    weighted_means,
)
from carsam.evaluation.davis.curves import Curves, statistics
from carsam.formats.files import write_whole

NAMES = ("mean", "recall", "decay")


@dataclass(frozen=True)
class SequenceResult:
    """One sequence.

    Args:
        name: of its folder.
        frames: of the video.
        curves: J and F of every object and judged frame.
        engine_seconds: of following its objects; None for masks made before.
    """

    name: str
    frames: int
    curves: Curves
    engine_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers of every object, its curves included, as json values."""
        objects = {
            str(number): {
                "J": {**statistics(self.curves.J[number]), "frames": self.curves.J[number]},
                "F": {**statistics(self.curves.F[number]), "frames": self.curves.F[number]},
            }
            for number in self.curves.J
        }
        row = {"name": self.name, "frames": self.frames, "objects": objects}
        return {**row, "engine_seconds": self.engine_seconds}


@dataclass(frozen=True)
class DavisResult:
    """Means over all objects of all sequences; fractions from 0 to 1, None where nothing counts.

    Args:
        model: names the model and run.
        mode: of the engine; `masks` for masks made before.
        year: the protocol.
        prompts: `masks`, `boxes` or `clicks`; None for masks made before.
        memory_frames: recalled beside those with prompts; None for the model's own number.
        J_and_F: mean of the means of J and F.
        J, F: their mean, recall and decay.
        intervals: 95 % of `J_and_F`, `J` and `F`, over sequences; None for fewer than two.
        bootstrap: how the intervals were made.
        sequences: each of them.
    """

    model: str
    mode: str
    year: str
    prompts: str | None
    memory_frames: int | None
    J_and_F: float | None
    J: Mapping[str, float | None]
    F: Mapping[str, float | None]
    intervals: Mapping[str, Interval | None]
    bootstrap: Mapping[str, Any]
    sequences: tuple[SequenceResult, ...]

    @classmethod
    def of(
        cls,
        sequences: Sequence[SequenceResult],
        *,
        model: str,
        mode: str,
        year: str,
        prompts: str | None,
        memory_frames: int | None = None,
        resamples: int,
        seed: int,
    ) -> "DavisResult":
        """Summarise sequences; the intervals tell of other draws of as many of them."""
        rows = [
            (place, {"J": statistics(result.curves.J[number]), "F": statistics(curve)})
            for place, result in enumerate(sequences)
            for number, curve in result.curves.F.items()
            if curve
        ]
        owner = np.array([place for place, _ in rows], int)
        values: dict[str, np.ndarray] = {
            f"{measure} {name}": np.array([found[measure][name] for _, found in rows], float)
            for measure in ("J", "F")
            for name in NAMES
        }
        means = {key: float(found.mean()) if rows else None for key, found in values.items()}
        both: np.ndarray = (values["J mean"] + values["F mean"]) / 2
        weights = resample_weights(len(sequences), resamples if len(sequences) > 1 else 0, seed)
        intervals = {
            key: centred_interval(weighted_means(found, owner, weights), float(found.mean()))
            if rows
            else None
            for key, found in (("J_and_F", both), ("J", values["J mean"]), ("F", values["F mean"]))
        }
        return cls(
            model=model,
            mode=mode,
            year=year,
            prompts=prompts,
            memory_frames=memory_frames,
            J_and_F=float(both.mean()) if rows else None,
            J={name: means[f"J {name}"] for name in NAMES},
            F={name: means[f"F {name}"] for name in NAMES},
            intervals=intervals,
            bootstrap={"resamples": resamples, "seed": seed, "level": LEVEL, "unit": "sequence"},
            sequences=tuple(sequences),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as json values."""
        document = {"format": "carsam-davis", "version": 1, **asdict(self)}
        return {**document, "sequences": [sequence.to_json() for sequence in self.sequences]}

    def save(self, path: str | Path) -> None:
        """Write the json whole or not at all; an older file of that name is replaced.

        Raises:
            UserError: the file cannot be written.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        write_whole(Path(path), text, "Give a file in a folder you may write to.")

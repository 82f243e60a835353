"""Follow the objects of DAVIS sequences with an engine and judge the masks, frame by frame."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from carsam.engines.video import VideoEngine
from carsam.errors import UserError, few
from carsam.evaluation.davis.curves import Curves, measure_sequence
from carsam.evaluation.davis.result import DavisResult, SequenceResult
from carsam.evaluation.davis.sequences import (
    FOREGROUND,
    Masks,
    VideoSequence,
    Year,
    read_sequences,
)
from carsam.evaluation.prompts import deepest_point
from carsam.formats.journal import Item, Journal
from carsam.images.label_masks import read_labels
from carsam.images.prompts import Prompts
from carsam.progress import Progress, Silent
from carsam.video.frames import ImageFrames
from carsam.video.session import Session, Settings

JOURNAL = "sequences"
"""Ending of the folder that keeps finished sequences."""


def evaluate_davis(
    engine: VideoEngine,
    root: str | Path,
    *,
    prompts: str = "masks",
    year: Year = "2016",
    names: Sequence[str] | None = None,
    model: str = "",
    target: Path | None = None,
    memory_frames: int | None = None,
    progress: Progress | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> DavisResult:
    """Follow every object of every sequence from its first frame, and judge all but the outer ones.

    Memories of prompted frames are made of probabilities, as for Meta's published numbers; in
    DAVIS's layout a pixel belongs to one object at most.

    Args:
        engine: of a model with a memory.
        root: data in the layout of DAVIS or SA-V, see `sequences`.
        prompts: `masks`, `boxes` or `clicks`, made of the true mask of an object's first frame.
        year: protocol of DAVIS.
        names: of the sequences wanted; all unless given.
        model: names model and run in the result.
        target: file that the result is going to; beside it finished sequences are kept, and
            another call goes on after them, if the engine has a fingerprint.
        memory_frames: of `Settings`.
        progress: hears of every sequence.
        bootstrap: resamples for the intervals.
        seed: of the resamples.

    Raises:
        UserError: wrong options, folders, frames or masks.
    """
    progress = progress or Silent()
    prompt = prompt_kind(prompts)
    sequences = read_sequences(root, year, names)
    fingerprint = getattr(engine, "fingerprint", None)
    journal = None
    if target is not None and fingerprint is not None:
        place = {"root": str(Path(root).resolve()), "prompts": prompts, "year": year}
        identity = {"version": 2, "engine": fingerprint, "memory": memory_frames, **place}
        journal = Journal(target, JOURNAL, identity, progress.warn)
    progress.start("Sequences", len(sequences))
    results = []
    for sequence in sequences:
        result = _restored(journal, sequence)
        if result is None:
            result = _measured(engine, sequence, prompt, memory_frames)
            if journal is not None:
                journal.store(sequence.name, Item({}, _document(result)))
        results.append(result)
        progress.advance(note=sequence.name)
    progress.finish()
    return DavisResult.of(
        results,
        model=model,
        mode=engine.mode,
        year=year,
        prompts=prompts,
        memory_frames=memory_frames,
        resamples=bootstrap,
        seed=seed,
    )


def measure_masks(
    folder: str | Path,
    root: str | Path,
    *,
    year: Year = "2016",
    names: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> DavisResult:
    """Judge masks made before: `folder/SEQUENCE/FRAME.png`, numbers of objects as in DAVIS.

    Raises:
        UserError: as `evaluate_davis`, or masks are missing.
    """
    results = [
        SequenceResult(
            sequence.name,
            len(sequence.frames),
            measure_sequence(sequence, _read_masks(Path(folder), sequence)),
        )
        for sequence in read_sequences(root, year, names)
    ]
    return DavisResult.of(
        results,
        model=str(folder),
        mode="masks",
        year=year,
        prompts=None,
        resamples=bootstrap,
        seed=seed,
    )


def follow(
    engine: VideoEngine,
    sequence: VideoSequence,
    prompt: "Prompter",
    memory_frames: int | None = None,
) -> Iterator[tuple[int, Masks]]:
    """Yield the place of each frame and the masks found there, by object."""
    settings = Settings(
        non_overlap_masks=not sequence.by_object,
        binarize_prompted=False,
        memory_frames=memory_frames,
    )
    session = Session(engine, ImageFrames(sequence.frames), settings)
    for number, (place, mask) in sequence.first_masks().items():
        if mask.shape != session.frames.size:
            raise UserError(
                f"The frames of {sequence.name} have {session.frames.size[1]} x "
                f"{session.frames.size[0]} pixels, its masks {mask.shape[1]} x {mask.shape[0]}; "
                "expected the same."
            )
        prompt(session, place, number, mask)
    for place, logits in session.propagate(0):
        yield place, dict(zip(session.objects, logits > 0, strict=True))


Prompter = Callable[[Session, int, int, np.ndarray], None]
"""Prompts an object in a frame of a session, knowing its mask (H, W)."""


def _prompt_with_mask(session: Session, place: int, number: int, mask: np.ndarray) -> None:
    session.add_mask(place, number, mask)


def _prompt_with_box(session: Session, place: int, number: int, mask: np.ndarray) -> None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
    session.add_prompts(place, number, Prompts(boxes=session.frame.map_boxes(box)))


def _prompt_with_click(session: Session, place: int, number: int, mask: np.ndarray) -> None:
    point = session.frame.map_points(np.array([[deepest_point(mask)]]))
    session.add_prompts(place, number, Prompts(point, np.ones((1, 1), np.int64)))


PROMPTERS: dict[str, Prompter] = {
    "masks": _prompt_with_mask,
    "boxes": _prompt_with_box,
    "clicks": _prompt_with_click,
}
"""Kinds of prompts by name; the click is the pixel deepest inside the mask."""


def prompt_kind(name: str) -> Prompter:
    """Return the prompts of that name; UserError names the known ones."""
    if name not in PROMPTERS:
        raise UserError(f"Unknown prompts {name!r}; expected one of {', '.join(PROMPTERS)}.")
    return PROMPTERS[name]


def _measured(
    engine: VideoEngine, sequence: VideoSequence, prompt: Prompter, memory_frames: int | None
) -> SequenceResult:
    seconds = 0.0

    def timed() -> Iterator[tuple[int, Masks]]:
        nonlocal seconds
        started = time.perf_counter()
        for found in follow(engine, sequence, prompt, memory_frames):
            seconds += time.perf_counter() - started
            yield found
            started = time.perf_counter()

    curves = measure_sequence(sequence, timed())
    return SequenceResult(sequence.name, len(sequence.frames), curves, seconds)


def _read_masks(folder: Path, sequence: VideoSequence) -> Iterator[tuple[int, Masks]]:
    """Yield the masks of the judged frames."""
    names = {place: sequence.frames[place].with_suffix(".png").name for place in sequence.judged}
    missing = [name for name in names.values() if not (folder / sequence.name / name).is_file()]
    if missing:
        raise UserError(
            f"Found no masks {few(missing)} in {folder / sequence.name}; expected one for each "
            "frame but the first and the last."
        )
    for place, name in names.items():
        labels = read_labels(folder / sequence.name / name)
        if sequence.year == "2016" and not sequence.by_object:
            yield place, {FOREGROUND: labels > 0}
        else:
            yield place, {int(each): labels == each for each in np.unique(labels) if each}


def _document(result: SequenceResult) -> dict[str, Any]:
    return {
        "frames": result.frames,
        "seconds": result.engine_seconds,
        "J": result.curves.J,
        "F": result.curves.F,
    }


def _restored(journal: Journal | None, sequence: VideoSequence) -> SequenceResult | None:
    kept = journal.document(sequence.name) if journal is not None else None
    if kept is None:
        return None
    curves = Curves(*({int(n): curve for n, curve in kept[each].items()} for each in ("J", "F")))
    return SequenceResult(sequence.name, kept["frames"], curves, kept["seconds"])

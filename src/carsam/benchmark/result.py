"""The result of a benchmark as json and as a Markdown table."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from carsam.benchmark.measure import DECODE_MANY, TRACK_FOUR, TRACK_ONE, Record

COLUMNS = {
    "encode": ("encode s", 1, 2),
    "decode": ("1 box ms", 1000, 0),
    "decode_64": ("64 boxes s", 1, 2),
    "track": ("frame, 1 object s", 1, 2),
    "track_4": ("frame, 4 objects s", 1, 2),
    "object": ("one object more s", 1, 2),
}
"""What the table shows of a phase: heading, unit in a second, digits."""

PEAKS = {
    "peak_mb": "peak MB, encoding",
    "peak_64_mb": "with 64 boxes",
    "peak_track_mb": "with tracking",
}


def to_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one entry per contender: medians first, then spread and every single call."""
    return [_entry(record) for record in records]


def _entry(record: Record) -> dict[str, Any]:
    seconds, contender = record.seconds, record.contender
    spread = {
        phase: {"min": min(calls), "max": max(calls), "calls": [round(call, 5) for call in calls]}
        for phase, calls in seconds.items()
    }
    medians = {phase: median(seconds[phase]) for phase in ("load", *COLUMNS) if phase in seconds}
    if TRACK_FOUR.name in medians:
        others = TRACK_FOUR.task["objects"] - TRACK_ONE.task["objects"]
        medians["object"] = (medians[TRACK_FOUR.name] - medians[TRACK_ONE.name]) / others
    peaks = {"peak_mb": record.peak_mb["encode"]}
    for phase, key in ((DECODE_MANY, "peak_64_mb"), (TRACK_FOUR, "peak_track_mb")):
        if phase.name in record.peak_mb:
            peaks[key] = max(record.peak_mb.values())
    fewer = contender.memory_frames
    return {
        "engine": contender.name,
        **{f"{phase}_seconds": round(value, 5) for phase, value in medians.items()},
        **{key: round(value, 1) for key, value in peaks.items()},
        **({} if fewer is None else {"memory_frames": fewer}),
        **record.description,
        "spread": spread,
    }


def markdown(document: dict[str, Any]) -> str:
    """Return a table with ratios against the first engine, and what it was measured on."""
    rows = document["engines"]
    first = rows[0]
    phases = [phase for phase in COLUMNS if f"{phase}_seconds" in first]
    peaks = [key for key in PEAKS if key in first]
    faster = [f"{first['engine']} is faster by", *["faster by"] * (len(phases) - 1)]
    timed = [
        cell
        for phase, ratio in zip(phases, faster, strict=True)
        for cell in (COLUMNS[phase][0], ratio)
    ]
    headings = ["engine", "load s", *timed, *(PEAKS[key] for key in peaks)]
    lines = [
        f"| {' | '.join(headings)} |",
        "|---|" + "---:|" * (len(headings) - 1),
        *(_row(row, first, phases, peaks) for row in rows),
    ]
    machine, versions = document["machine"], document["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    note = (
        f"{machine['processor']}, {machine['processors']} processors, {document['threads']} "
        f"threads; medians of {document['rounds']} interleaved rounds (smallest - largest). "
        f"{listed}. `{document['command']}`"
    )
    return "\n".join([*lines, "", note, ""])


def _row(
    row: dict[str, Any], first: dict[str, Any], phases: Sequence[str], peaks: Sequence[str]
) -> str:
    named = ("recipe", "bits", "instruction_set", "precision")
    details = [row[key] for key in named if row.get(key)]
    cells = [
        f"{row['engine']} ({', '.join(details)})" if details else row["engine"],
        f"{row['load_seconds']:.2f}",
    ]
    for phase in phases:
        key = f"{phase}_seconds"
        if key in row:
            cells += [_time(row, phase), f"{row[key] / first[key]:.2f} x"]
        else:
            cells += ["", ""]
    cells += [f"{row[key]:.0f}" if key in row else "" for key in peaks]
    return f"| {' | '.join(cells)} |"


def _time(row: dict[str, Any], phase: str) -> str:
    """Return the median of a phase, and the smallest and the largest where it was timed itself."""
    _, unit, digits = COLUMNS[phase]
    shown = f"{row[f'{phase}_seconds'] * unit:.{digits}f}"
    if phase not in row["spread"]:
        return shown
    low, high = (f"{row['spread'][phase][end] * unit:.{digits}f}" for end in ("min", "max"))
    return f"{shown} ({low} - {high})"

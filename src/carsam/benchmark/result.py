"""The result of a benchmark as json and as a Markdown table."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from carsam.benchmark.measure import Record

PHASES = ("load", "encode", "decode", "decode_64")


def to_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one entry per contender: medians first, then spread and every single call."""
    return [_entry(record) for record in records]


def _entry(record: Record) -> dict[str, Any]:
    seconds = record.seconds
    spread = {
        phase: {"min": min(calls), "max": max(calls), "calls": [round(call, 5) for call in calls]}
        for phase, calls in seconds.items()
    }
    return {
        "engine": record.contender.name,
        **{f"{phase}_seconds": round(median(seconds[phase]), 5) for phase in PHASES},
        "peak_mb": round(record.peak_mb["encode"], 1),
        "peak_64_mb": round(max(record.peak_mb.values()), 1),
        **record.description,
        "spread": spread,
    }


def markdown(document: dict[str, Any]) -> str:
    """Return a table with ratios against the first engine, and what it was measured on."""
    rows = document["engines"]
    first = rows[0]["engine"]
    lines = [
        f"| engine | load s | encode s | {first} is faster by | 1 box ms | faster by "
        "| 64 boxes s | faster by | peak MB, encoding | with 64 boxes |",
        "|---|" + "---:|" * 9,
        *(_row(row, rows[0]) for row in rows),
    ]
    machine, versions = document["machine"], document["versions"]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    note = (
        f"{machine['processor']}, {machine['processors']} processors, {document['threads']} "
        f"threads; medians of {document['rounds']} interleaved rounds (smallest - largest). "
        f"{listed}. `{document['command']}`"
    )
    return "\n".join([*lines, "", note, ""])


def _row(row: dict[str, Any], first: dict[str, Any]) -> str:
    def spread(phase: str, unit: float, digits: int) -> str:
        ends = (row["spread"][phase][end] * unit for end in ("min", "max"))
        low, high = (f"{end:.{digits}f}" for end in ends)
        return f"{row[f'{phase}_seconds'] * unit:.{digits}f} ({low} - {high})"

    def ratio(phase: str) -> str:
        key = f"{phase}_seconds"
        return f"{row[key] / first[key]:.2f} x"

    details = [row[key] for key in ("bits", "instruction_set", "precision") if row.get(key)]
    cells = (
        f"{row['engine']} ({', '.join(details)})" if details else row["engine"],
        f"{row['load_seconds']:.2f}",
        spread("encode", 1, 2),
        ratio("encode"),
        spread("decode", 1000, 0),
        ratio("decode"),
        spread("decode_64", 1, 2),
        ratio("decode_64"),
        f"{row['peak_mb']:.0f}",
        f"{row['peak_64_mb']:.0f}",
    )
    return f"| {' | '.join(cells)} |"

"""The numbers of the quickstart as a table, and what they mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carsam.evaluation.result import EvaluationResult
from carsam.formats.checkpoint import read_checkpoint
from carsam.formats.inventory import bytes_on_disk, float32_bytes

ROWS = (
    ("recipe", "recipe", "{}"),
    ("arithmetic", "mode", "{}"),
    ("COCO AP", "AP", "{:.3f}"),
    ("mean IoU", "mean_iou", "{:.3f}"),
    ("IoU with float", "mask_iou_with_float", "{:.3f}"),
    ("size", "megabytes", "{:.2f} MB"),
    ("time per image", "seconds_per_image", "{:.2f} s"),
)
"""Label, key and form of each row of the table."""

MEANINGS = (
    ("recipe", "how the model was quantized; `carsam recipes` lists all."),
    ("arithmetic", "float is 32-bit floating point; native computes in integers, without torch."),
    ("COCO AP", "how many objects have a good mask, and how good; 1 is perfect."),
    ("mean IoU", "overlap of the masks with the true ones; 1 is perfect."),
    ("IoU with float", "overlap with the float model's masks: what quantization changed."),
    ("size", "of the files; of the float model with 4 bytes for each weight."),
    ("time per image", "on this computer, with the masks of all its boxes."),
)
"""What the rows of the table say."""


def summarize(
    model: str, results: Mapping[str, EvaluationResult], runs: Mapping[str, Path]
) -> dict[str, Any]:
    """Return what `summary.json` holds.

    Args:
        model: name of the float model.
        results: of each quantized model, by name, with the float model beside it.
        runs: their folders, by name.
    """
    first, result = next(iter(results.items()))
    size = float32_bytes(read_checkpoint(runs[first]))
    models = {"float": _numbers(result.to_json()["float"], result.images, size, None, None)}
    for name, result in results.items():
        document, size = result.to_json(), bytes_on_disk(runs[name])
        recipe = read_checkpoint(runs[name]).manifest["recipe"]
        label = f"{recipe['name']} {recipe['bits']}"
        agreement = document["agreement"]["mask_iou"]
        models[name] = _numbers(document, result.images, size, label, agreement)
    return {
        "model": model,
        "images": result.images,
        "instances": result.instances,
        "threads": result.threads,
        "models": models,
    }


def title(summary: Mapping[str, Any]) -> str:
    """Return one line on what was measured."""
    return f"{summary['model']} on {summary['images']} images, {summary['instances']} boxes"


def columns(summary: Mapping[str, Any]) -> list[str]:
    """Return the heads of the table's columns, the first of which is empty."""
    return ["", *summary["models"]]


def rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of the table under `columns`."""
    models = summary["models"].values()
    return [
        [label, *(_shown(numbers[key], pattern) for numbers in models)]
        for label, key, pattern in ROWS
    ]


def markdown(summary: Mapping[str, Any]) -> str:
    """Return title, table and meanings as Markdown."""
    heads = columns(summary)
    lines = [f"# {title(summary)}", "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    lines += [_line(row) for row in rows(summary)]
    lines += ["", *(f"- **{label}**: {meaning}" for label, meaning in MEANINGS)]
    return "\n".join([*lines, ""])


def _numbers(
    side: Mapping[str, Any], images: int, size: int, recipe: str | None, agreement: float | None
) -> dict[str, Any]:
    """Return the numbers of one model; `side` is the result's part on it."""
    return {
        "recipe": recipe,
        "mode": side["mode"],
        "AP": side["coco"]["AP"],
        "mean_iou": side["mean_iou"],
        "mask_iou_with_float": agreement,
        "megabytes": size / 1e6,
        "seconds_per_image": side["engine_seconds"] / images,
    }


def _shown(value: float | str | None, pattern: str) -> str:
    """Return a number as text; None stands for what there is not."""
    return "-" if value is None else pattern.format(value)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

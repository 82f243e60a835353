"""The sections of a report, each a function from what was found to HTML."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carsam.diagnosis.damage import ADVICE_SHARE
from carsam.report.charts import Line, Piece, bar, line_chart, stacked_bar
from carsam.report.html import (
    Html,
    code,
    folded,
    missing,
    module_path,
    paragraph,
    table,
    text,
)

Found = Mapping[str, Any]

FIRST_ROWS = 12
"""Rows of a long table that are shown; the others are folded away."""


def gallery(found: Found) -> str:
    """Both models' masks side by side, the worst first."""
    photos = found["photos"]
    if photos is None:
        return missing("--images PHOTOS", "Masks side by side need photos:")
    crops = photos["crops"]
    shown = [crop for crop in crops if crop["pictures"]]
    mean = sum(crop["iou"] for crop in crops) / len(crops)
    said = (
        f"{len(crops)} boxes on {len(photos['images'])} photos; mean IoU of the quantized masks "
        f"with the float model's: {mean:.3f}. Left the float model, right the quantized one "
        f"({photos['engine']} engine), the worst first"
    )
    said += (
        "." if len(shown) == len(crops) else f"; the best {len(crops) - len(shown)} are left out."
    )
    figures = "".join(_figure(crop) for crop in shown)
    return paragraph(said) + f'<div class="gallery">{figures}</div>'


def _figure(crop: Found) -> str:
    pictures = "".join(
        f'<img alt="{which} mask" src="data:image/webp;base64,{picture}">'
        for which, picture in zip(("float", "quantized"), crop["pictures"], strict=True)
    )
    caption = f"<b>IoU {crop['iou']:.3f}</b> <span>{text(crop['image'])}</span>"
    return f'<figure><div class="pair">{pictures}</div><figcaption>{caption}</figcaption></figure>'


def damage(found: Found) -> str:
    """What each unit and operand harms alone, and rules against the worst."""
    doctor = found["diagnosis"]
    if doctor is None:
        return missing(
            "carsam doctor RUN --images PHOTOS --out FOLDER",
            "Which units do the damage: give --doctor FOLDER, which this command writes:",
        )
    diagnosis = doctor["diagnosis"]
    units = diagnosis["alone"]
    ranked = sorted(range(len(units)), key=lambda place: -units[place]["logit_error"])
    worst = units[ranked[0]]["logit_error"] if units else 0.0
    rows = [
        (
            place + 1,
            module_path(units[place]["name"]),
            _bar(units[place]["logit_error"], worst),
            units[place]["logit_error"],
            f"{units[place]['lost_iou']:.2f}",
            f"{diagnosis['cumulative'][place]['lost_iou']:.2f}",
        )
        for place in ranked
    ]
    head = ("Place", "Unit", "", "Logit error", "Lost IoU %", "with all before")
    parts: list[str] = [_long_table(head, rows, (0, 3, 4, 5))]
    errors = [unit["logit_error"] for unit in units]
    if chosen := _worst(errors, ranked):
        share = sum(errors[place] for place in chosen) / sum(errors)
        said = (
            f"The first {len(chosen)} of {len(units)} units make {share:.0%} of what all harm "
            "separately. To keep them at 8 bits, quantize again with these rules:"
        )
        patterns = [p for place in chosen for p in doctor["costs"][place]["patterns"]]
        rules = " \\\n".join(f"--rule '{pattern}=w8a8'" for pattern in patterns)
        parts += [paragraph(said), code(rules)]
    return "".join([*parts, _operands(diagnosis), _focus(doctor)])


def _operands(diagnosis: Found) -> str:
    operands = sorted(diagnosis["operands"], key=lambda harm: -harm["logit_error"])
    worst = operands[0]["logit_error"] if operands else 0.0
    rows = [
        (
            harm["name"],
            _bar(harm["logit_error"], worst),
            harm["logit_error"],
            f"{harm['lost_iou']:.2f}",
        )
        for harm in operands
    ]
    title = "<h3>One kind of operand everywhere</h3>"
    said = title + table(("Operand", "", "Logit error", "Lost IoU %"), rows, (2, 3))
    if diagnosis.get("weights_stay"):
        said += paragraph(
            "The recipe changed more than weights, so the damage of all weights is in each row.",
            "quiet",
        )
    return said


def _focus(doctor: Found) -> str:
    before, after = doctor.get("float_focus", ()), doctor.get("quantized_focus", ())
    rows = [
        (
            module_path(a["path"]),
            a["entropy"],
            b["entropy"],
            f"{a['inside']:.1%}",
            f"{b['inside']:.1%}",
        )
        for a, b in zip(before, after, strict=False)
    ]
    head = ("Attention", "Entropy, float", "quantized", "In the object, float", "quantized")
    return f"<h3>Where the decoder looks</h3>{table(head, rows, (1, 2, 3, 4))}" if rows else ""


def _bar(value: float, largest: float) -> Html:
    return Html(bar(value / largest if largest > 0 else 0.0))


def _worst(errors: Sequence[float], ranked: Sequence[int]) -> list[int]:
    """Return the places of the fewest units that make half of the separate damage."""
    chosen: list[int] = []
    for place in ranked:
        if sum(errors[each] for each in chosen) >= ADVICE_SHARE * sum(errors):
            break
        chosen.append(place)
    return chosen


def bits(found: Found) -> str:
    """Which parts have how many bits, and where the megabytes are."""
    parts = found["parts"]
    total = sum(part["bytes"] for part in parts)
    largest = max(part["bytes"] for part in parts)
    rows = [
        (
            part["kind"],
            part["weights"],
            part["activations"],
            part["sites"] or None,
            _bar(part["bytes"], largest),
            f"{part['bytes'] / 1000:.1f}",
            f"{part['bytes'] / total:.1%}",
        )
        for part in parts
    ]
    head = ("Kind", "Weight bits", "Activation bits", "Sites", "", "kB", "Share")
    pieces = [Piece(part["kind"], part["bytes"], quiet=not part["sites"]) for part in parts]
    return stacked_bar(pieces) + table(head, rows, (3, 5, 6))


def ranges(found: Found) -> str:
    """What the grids of activations span, and how photos fill them."""
    every = found["ranges"]
    measured = [each for each in every if each["used"] is not None]
    head = ("Site", "Operand", "Grid", "From", "To", "Scale", "Zero", "Clipped", "Codes used")

    def row(each: Found) -> tuple[Any, ...]:
        clipped = None if each["clipped"] is None else f"{each['clipped']:.2%}"
        used = None if each["used"] is None else f"{each['used']} of {2 ** each['bits']}"
        named = (
            module_path(each["site"]),
            each["operand"],
            f"{each['grid']}\N{NO-BREAK SPACE}{each['bits']}",
        )
        spans = (f"{each[end]:.3g}" for end in ("low", "high"))
        return *named, *spans, each["scale"], each["zero_point"], clipped, used

    numbers = tuple(range(3, 9))
    if not measured:
        asked = missing(
            "--images PHOTOS", "How much of them is clipped and used is seen on photos:"
        )
        return asked + folded(f"All {len(every)} grids", table(head, map(row, every), numbers))
    worst = sorted(measured, key=lambda each: each["clipped"] or 0, reverse=True)
    idle = sum(each["used"] < 2 ** each["bits"] for each in measured)
    said = (
        f"Of {len(measured)} grids {idle} have codes that do not occur on the photos looked at. "
        f"The {min(FIRST_ROWS, len(worst))} that clip most:"
    )
    return (
        paragraph(said)
        + table(head, map(row, worst[:FIRST_ROWS]), numbers)
        + folded(
            f"All {len(every)} grids in the order of execution",
            table(head, map(row, every), numbers),
        )
    )


def agreement(found: Found) -> str:
    """Whether the engines compute the same."""
    photos = found["photos"]
    if photos is None:
        return missing("--images PHOTOS", "The engines are compared on photos:")
    if photos["agreement"] is None:
        return paragraph("The native engine does not run this model; the simulation does.")
    same = photos["agreement"]
    rows = [
        ("Masks compared", f"{same['masks']}"),
        ("Pixels equal, mean over masks", f"{same['pixels_equal']:.6%}"),
        ("Pixels equal, worst mask", f"{same['worst']:.6%}"),
    ]
    if same["codes"] is not None:
        rows += [
            ("Codes compared", f"{same['codes']:,}"),
            ("Codes that differ", f"{same['differing']:,}"),
        ]
    return paragraph("The native engine beside the simulation in torch:") + table(
        ("", ""), rows, (1,)
    )


def losses(found: Found) -> str:
    """How reconstruction went, unit by unit."""
    curves = found["losses"]
    if not curves:
        return paragraph("The run holds no losses of a training.", "quiet")
    names = [curve["unit"] for curve in curves]
    before = Line("before training", [curve["before"] for curve in curves], thin=True)
    after = Line("after", [curve["after"] for curve in curves])
    undone = sum(not curve["kept"] for curve in curves)
    rows = [
        (
            module_path(c["unit"]),
            c["before"],
            c["after"],
            f"{1 - c['after'] / c['before']:.0%}" if c["before"] else None,
            f"{c['rises']:.0%}",
            "yes" if c["kept"] else "no",
        )
        for c in curves
    ]
    head = ("Unit", "Loss before", "after", "Less by", "Changes that are rises", "Kept")
    return (
        paragraph(f"{len(curves)} trainings, {undone} of them undone because they did not help.")
        + line_chart([before, after], names, "Loss")
        + folded("All numbers", table(head, rows, (1, 2, 3, 4)))
    )


def provenance(found: Found) -> str:
    """Where the run comes from."""
    known, evaluation = found["provenance"], found["evaluation"]
    recipe, calibration = known["recipe"], known["calibration"]
    rules = ", ".join(f"{rule['match']}={rule['bits']}" for rule in recipe.get("rules", ()))
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    rows: list[tuple[str, Any]] = [
        ("Made from", f"{known['source']} (family {found['family']})"),
        ("Input", f"{found['image_size']} x {found['image_size']} pixels"),
        ("Recipe", f"{recipe.get('name')} {recipe.get('bits')}"),
        ("Rules", rules or "none"),
        ("Seed", known.get("seed")),
        ("Calibrated on", f"{len(calibration.get('images', ()))} images"),
        ("Their SHA-256", calibration.get("sha256")),
        ("Made with", versions),
        ("Fingerprint of the run", found["fingerprint"]),
    ]
    if evaluation is not None:
        rows += [
            (
                "Evaluated as",
                f"{evaluation.get('model')}, {evaluation.get('engine')} ({evaluation.get('mode')})",
            ),
            ("Prompts", f"{evaluation.get('prompts')}, ranked by {evaluation.get('score')}"),
            ("Images evaluated, SHA-256 of their ids", evaluation.get("ids_sha256")),
            (
                "Evaluated with",
                ", ".join(f"{n} {v}" for n, v in evaluation.get("versions", {}).items()),
            ),
        ]
    if found["photos"] is not None:
        rows.append(("Photos looked at", ", ".join(found["photos"]["images"])))
    rows.append(("This page was made on", ", ".join(map(str, found["machine"].values()))))
    rows.append(("Command", Html(f"<code>{text(found['command'])}</code>")))
    names = ", ".join(calibration.get("images", ()))
    return table(("", ""), rows) + folded("Calibration images", paragraph(names, "quiet"))


def _long_table(head: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int]) -> Html:
    first = table(head, rows[:FIRST_ROWS], numbers)
    rest = rows[FIRST_ROWS:]
    more = folded(f"{len(rest)} more", table(head, rest, numbers)) if rest else ""
    return Html(first + more)


SECTIONS: dict[str, tuple[str, Callable[[Found], str]]] = {
    "gallery": ("Masks side by side", gallery),
    "damage": ("What does the damage", damage),
    "bits": ("Bits and megabytes", bits),
    "ranges": ("Ranges of activations", ranges),
    "agreement": ("Agreement of the engines", agreement),
    "losses": ("Losses of reconstruction", losses),
    "provenance": ("Provenance", provenance),
}
"""Those after the verdict, in their order: anchor, title and content."""

"""A report as one HTML file that needs nothing else: no script, no font, no request."""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from carsam.errors import UserError
from carsam.report.findings import FORMAT
from carsam.report.html import text
from carsam.report.sections import SECTIONS
from carsam.report.verdict import verdict

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_EMBEDDED = re.compile(r'<script type="application/json" id="report">(.*?)</script>', re.DOTALL)


def render(found: Mapping[str, Any]) -> str:
    """Return the page of what `findings.gather` found; the numbers are embedded as JSON."""
    style = files("carsam.report").joinpath("style.css").read_text()
    title = f"{Path(found['run']).name or found['run']}: quantization report"
    sections = "".join(
        f'<section id="{anchor}"><h2>{title}</h2>{content(found)}</section>'
        for anchor, (title, content) in SECTIONS.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{style}</style></head><body>"
        f"<h1>{text(title)}</h1>{verdict(found)}{sections}"
        '<p class="quiet">The numbers of this page are embedded in it as JSON; '
        "<code>carsam.report.page.read(FILE)</code> returns them.</p>"
        f'<script type="application/json" id="report">{_embedded(found)}</script></body></html>\n'
    )


def read(path: str | Path) -> dict[str, Any]:
    """Return the numbers that are embedded in a report.

    Raises:
        UserError: the file is none, or cannot be read.
    """
    try:
        held = _EMBEDDED.search(Path(path).read_text(encoding="utf-8"))
        found = json.loads(held[1]) if held else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a report: {error}.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{path} is no report of `carsam report`: it holds no numbers of one.")
    return found


def _embedded(found: Mapping[str, Any]) -> str:
    """Return the findings as JSON without the pictures, which are on the page already."""
    photos = found["photos"]
    if photos is not None:
        crops = [{k: v for k, v in crop.items() if k != "pictures"} for crop in photos["crops"]]
        found = {**found, "photos": {**photos, "crops": crops}}
    return json.dumps(found, separators=(",", ":")).replace("<", "\\u003c")

"""Bars and lines of a page, without a script: HTML and inline SVG in the page's own colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 230
LEFT, BOTTOM, TOP = 52, 22, 10
LETTER = 7
"""Width of a letter, about."""


@dataclass(frozen=True)
class Line:
    """One line of a chart: a name, a value for every place, and whether it is drawn thin."""

    name: str
    values: Sequence[float]
    thin: bool = False


@dataclass(frozen=True)
class Piece:
    """One part of a bar; a quiet one is drawn in grey."""

    name: str
    size: float
    quiet: bool = False


def bar(share: float) -> str:
    """Return a horizontal bar that fills a share, from 0 to 1, of its cell."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<span class="track"><i style="width:{width:.1f}%"></i></span>'


def stacked_bar(pieces: Sequence[Piece]) -> str:
    """Return one bar as wide as the page; names stand where they fit, and when pointed at."""
    total = sum(piece.size for piece in pieces)
    drawn, left = [], 0.0
    for place, piece in enumerate(pieces):
        width = WIDTH * piece.size / total if total else 0
        colour = "var(--line)" if piece.quiet else "var(--accent)"
        opacity = 1 if piece.quiet else 1 - 0.75 * place / len(pieces)
        drawn.append(
            f'<rect x="{left:.1f}" width="{max(0, width - 1):.1f}" height="34" fill="{colour}" '
            f'fill-opacity="{opacity:.2f}"><title>{escape(piece.name)}</title></rect>'
        )
        if len(piece.name) * LETTER < width:
            drawn.append(f'<text x="{left + 6:.1f}" y="50">{escape(piece.name)}</text>')
        left += width
    return f'<svg viewBox="0 0 {WIDTH} 56" role="img">{"".join(drawn)}</svg>'


def line_chart(lines: Sequence[Line], names: Sequence[str], axis: str) -> str:
    """Return lines over the same places on a logarithmic axis; values of 0 are left out.

    Args:
        names: of the places, shown when pointed at.
        axis: says what the values are.
    """
    positive = [value for line in lines for value in line.values if value > 0]
    if not positive:
        return ""
    low, high = math.log10(min(positive)), math.log10(max(positive))
    low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    across = (WIDTH - LEFT - 10) / max(1, len(names) - 1)

    def point(place: int, value: float) -> tuple[float, float]:
        share = (math.log10(value) - low) / (high - low)
        return LEFT + across * place, HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    pieces = []
    for exponent in range(low, high + 1):
        _, y = point(0, 10.0**exponent)
        pieces.append(
            f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">1e{exponent}</text>'
        )
    for line in lines:
        points = [point(place, v) for place, v in enumerate(line.values) if v > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = (
            'stroke="var(--quiet)" stroke-dasharray="4 3"'
            if line.thin
            else ('stroke="var(--accent)" stroke-width="2"')
        )
        pieces.append(f'<polyline points="{path}" fill="none" {style}/>')
    for place, name in enumerate(names):
        for line in lines:
            value = line.values[place]
            if value > 0:
                x, y = point(place, value)
                colour = "var(--quiet)" if line.thin else "var(--accent)"
                pieces.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}">'
                    f"<title>{escape(name)}: {escape(line.name)} {value:.3g}</title></circle>"
                )
    keys = "; ".join(f"{line.name} ({'dashed' if line.thin else 'solid'})" for line in lines)
    label = f'<text x="{LEFT}" y="{HEIGHT - 4}">{escape(axis)}: {escape(keys)}</text>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(pieces)}{label}</svg>'

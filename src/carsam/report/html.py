"""Small pieces of HTML. Text is escaped here, once; what is HTML already is of type `Html`."""

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is HTML and needs no escaping."""


Cell = str | float | int | None


def text(value: Cell) -> str:
    """Return a value as HTML: numbers with four digits, nothing as a dash."""
    if isinstance(value, Html):
        return value
    if value is None:
        return "-"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: Sequence[int] = ()) -> Html:
    """Return a table.

    Args:
        head: names of the columns; no line of them where all are empty.
        numbers: places of the columns that are set to the right.
    """

    def cells(tag: str, row: Sequence[Cell]) -> str:
        return "".join(
            f"<{tag}{_class(place, cell, numbers)}>{text(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    first = f"<tr>{cells('th', head)}</tr>" if any(head) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return Html(f'<div class="wide"><table>{first}{body}</table></div>')


def paragraph(content: str, kind: str = "") -> Html:
    """Return a paragraph."""
    return Html(f"<p{f' class={kind!r}' if kind else ''}>{text(content)}</p>")


def module_path(path: str) -> Html:
    """Return the path of a module, which may break after its dots."""
    return Html(escape(path).replace(".", ".<wbr>"))


def folded(summary: str, content: str) -> Html:
    """Return content that is shown when its summary is clicked."""
    return Html(f"<details><summary>{text(summary)}</summary>{content}</details>")


def code(content: str) -> Html:
    """Return lines to copy."""
    return Html(f"<pre><code>{escape(content)}</code></pre>")


def missing(command: str, what: str) -> Html:
    """Return a paragraph that says which command adds what the page lacks."""
    return Html(f'<p class="quiet">{escape(what)} <code>{escape(command)}</code></p>')


def _class(place: int, cell: Cell, numbers: Sequence[int]) -> str:
    if place in numbers:
        return ' class="n"'
    return ' class="bar"' if isinstance(cell, Html) and "track" in cell else ""

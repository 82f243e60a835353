"""Read json that a user wrote, and values in it that may be of another type than they should."""

import json
import math
import reprlib
from pathlib import Path
from typing import Any

from carsam.errors import UserError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the original image."""


def read_json(path: str | Path) -> Any:
    """Return the parsed json of `path`: UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        UserError: The file is missing, unreadable, no text or not json (with line and column).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        encoding = json.detect_encoding(data)
        return json.loads(data.decode(encoding))
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}. Give the path of a json file."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not {encoding.upper()} text at byte {error.start}. Expected a json file."
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid json: {error.msg} at line {error.lineno}, column {error.colno}. "
            "Expected a complete json file; it may have been cut short."
        ) from error
    except RecursionError as error:
        raise UserError(
            f"{path} nests lists or objects too deeply. Expected a json file as programs for "
            "annotation write it."
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{path} cannot be read: {error}. Mend the number.") from error


def number(value: Any) -> float | None:
    """Return a finite number, also one written as text; None for everything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def whole_number(value: Any) -> int | None:
    """Return a whole number, also one written as 420.0 or as text; None for everything else."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def corners(value: Any) -> Box | None:
    """Return COCO's [x, y, width, height] as a box; None if it is not four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = map(number, value)
    if x is None or y is None or width is None or height is None:
        return None
    box = x, y, x + width, y + height
    return box if all(map(math.isfinite, box)) else None


def shown(value: Any) -> str:
    """Return a value as a message can show it: short, on one line, only printable characters."""
    text = value if isinstance(value, str) else _SHORT.repr(value)
    text = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


LONGEST_SHOWN = 120
_SHORT = reprlib.Repr()  # bounds depth and length, unlike repr

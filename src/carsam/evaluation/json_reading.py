"""Read json that a user wrote: every complaint names the file, the entry and the key."""

import json
import sys
from pathlib import Path
from typing import Any

from carsam.errors import UserError


def read_json(path: str | Path) -> Any:
    """Return the parsed json of `path`.

    Raises:
        UserError: The file is missing, unreadable, not UTF-8 or not json (with line and column).
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid json: {error.msg} at line {error.lineno}, column {error.colno}. "
            "Expected a complete json file; it may have been cut short."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text at byte {error.start}. Expected a json file."
        ) from error
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}. Give the path of a json file."
        ) from error


class Record:
    """One json object of a list, read key by key."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise UserError(f"{where} is {type(value).__name__}, expected an object.")
        self._value = value
        self.where = where

    def get(self, key: str, default: Any = None) -> Any:
        """Return the raw value of `key`."""
        return self._value.get(key, default)

    def integer(self, key: str) -> int:
        """Return an integer; UserError if it is missing or something else."""
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "an integer")
        return value

    def number(self, key: str) -> float:
        """Return a finite number; UserError if it is missing or something else."""
        value = self._required(key)
        if not is_finite_number(value):
            raise self._wrong(key, value, "a finite number")
        return float(value)

    def text(self, key: str) -> str:
        """Return a non-empty string; UserError if it is missing or something else."""
        value = self._required(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, value, "a non-empty string")
        return value

    def box(self, key: str) -> tuple[float, float, float, float]:
        """Return COCO's [x, y, width, height] as (x0, y0, x1, y1); UserError if it is not that."""
        value = self._required(key)
        if not isinstance(value, list) or len(value) != 4 or not all(map(is_finite_number, value)):
            raise self._wrong(key, value, "[x, y, width, height], four finite numbers")
        x, y, width, height = (float(number) for number in value)
        return x, y, x + width, y + height

    def _required(self, key: str) -> Any:
        if key not in self._value:
            raise UserError(f"{self.where} has no {key!r}. Add it, or export the file again.")
        return self._value[key]

    def _wrong(self, key: str, value: Any, expected: str) -> UserError:
        return UserError(f"{self.where} has {key!r} = {str(value)[:80]}, expected {expected}.")


def is_finite_number(value: Any) -> bool:
    """Return whether `value` is a number (no bool) that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max

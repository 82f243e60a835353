"""Errors that a user can mend: the message says what was found, what was expected, what to do."""

from collections.abc import Sequence

FEW = 5
"""Names that a message gives where there are more."""


class UserError(ValueError):
    """Wrong input or wrong use; the command line prints the message and exits with code 2."""


class MissingExtraError(UserError):
    """A command needs packages of an extra that is not installed."""


class TooManyPixelsError(UserError):
    """An image has more pixels than the limit allows."""


class UnsupportedError(UserError):
    """An engine cannot run a checkpoint that is sound in itself; another engine can."""


def few(items: Sequence[object], count: int | None = None) -> str:
    """Return the first items, separated by commas, with ", ..." where there are more."""
    shown = ", ".join(str(item) for item in items[:FEW])
    return shown + (", ..." if (count or len(items)) > FEW else "")

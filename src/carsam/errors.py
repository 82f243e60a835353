"""Errors that a user can mend: the message says what was found, what was expected, what to do."""

from collections.abc import Iterable

FEW = 5
"""Names that a message gives where there are more."""


class UserError(ValueError):
    """Wrong input or wrong use; the command line prints the message and exits with code 2."""


class NoImageError(UserError, RuntimeError):
    """A predictor is asked before it has an image; segment-anything raises RuntimeError then."""


class MissingExtraError(UserError):
    """A command needs packages of an extra that is not installed."""


class TooManyPixelsError(UserError):
    """An image has more pixels than the limit allows."""


class UnsupportedError(UserError):
    """An engine cannot run a checkpoint that is sound in itself; another engine can."""


def few(items: Iterable[object]) -> str:
    """Return the first of some items and how many more there are, each of them once."""
    listed = list(dict.fromkeys(str(item) for item in items))
    shown = ", ".join(listed[:FEW])
    return f"{shown} and {len(listed) - FEW} more" if len(listed) > FEW else shown

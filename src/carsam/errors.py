"""Errors that a user can mend: the message says what was found, what was expected, what to do."""

from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input or wrong use; the command line prints the message and exits with code 2."""


class MissingExtraError(UserError):
    """A command needs packages of an extra that is not installed."""


class UnsupportedError(UserError):
    """An engine cannot run a checkpoint that is sound in itself; another engine can."""


def few(names: Iterable[str]) -> str:
    """Return the first three of some names and how many more there are, for a message."""
    listed = list(dict.fromkeys(names))
    shown = ", ".join(listed[:3])
    return f"{shown} and {len(listed) - 3} more" if len(listed) > 3 else shown

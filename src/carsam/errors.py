"""Errors that a user can mend: the message says what was found, what was expected, what to do."""


class UserError(ValueError):
    """Wrong input or wrong use; the command line prints the message and exits with code 2."""


class MissingExtraError(UserError):
    """A command needs packages of an extra that is not installed."""


class UnsupportedError(UserError):
    """An engine cannot run a checkpoint that is sound in itself; another engine can."""

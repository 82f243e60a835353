"""Requests that are not answered, and why."""


class Refused(Exception):
    """A request is refused with a status of HTTP.

    Args:
        status: of the answer.
        code: a word for programs.
        message: a sentence for people.
        retry_after: seconds after which it may be tried again.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class Gone(Exception):
    """The client has closed the connection."""


def wrong(message: str) -> Refused:
    """Return the refusal of a request that is not as it should be."""
    return Refused(400, "bad_request", message)

"""Answers in JSON, errors among them."""

import json
from typing import Any

from starlette.responses import Response

from carsam.serve.refusals import Refused


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer; text of any kind becomes ASCII, so that half characters do no harm."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(json.dumps(content), status, headers, "application/json")


def failure(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error as all interfaces here do."""
    return answer({"success": False, "error": {"code": code, "message": message}}, status, headers)


def refusal(error: Refused) -> Response:
    """Return the answer to a request that is refused."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="carsam", Bearer'
    return failure(error.status, error.code, str(error), headers)

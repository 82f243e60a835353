"""`carsam serve`: a model behind a socket, until it is stopped."""

import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from carsam.errors import UserError
from carsam.serve.settings import Settings

MOST_CONNECTIONS = 1000
"""Open at the same time; most of them wait for their user's next click."""


def serve(app: ASGIApp, settings: Settings, ready: Callable[[str], object]) -> None:
    """Serve an application until the process is interrupted.

    Args:
        ready: told the address when requests are accepted.

    Raises:
        UserError: the address cannot be used.
    """
    with _listening(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        host, port = listener.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        uvicorn.Server(config).run([listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        raise UserError(
            f"Cannot listen at {host}, port {port}: {error.strerror or error}. Give another --host "
            "or --port."
        ) from None
    return listener

"""The files of the page, read once and served from memory: no request opens a file."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from carsam.quickstart.photos import Photo, installed_photos
from carsam.serve.service import route

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def samples() -> dict[str, Photo]:
    """Return photos to begin with, by file name; none where the extra `photos` is not installed."""
    return {photo.path.name: photo for photo in installed_photos()}


def page_routes(shown: Mapping[str, Photo]) -> list[Route]:
    """Return a route for each file of the page and each photo to begin with."""
    folder = files("carsam.demo") / "static"
    contents = {f"/{each.name}": each.read_bytes() for each in folder.iterdir()}
    contents["/"] = contents.pop("/index.html")
    contents |= {f"/samples/{name}": photo.path.read_bytes() for name, photo in shown.items()}
    return [_file(path, content) for path, content in contents.items()]


def _file(path: str, content: bytes) -> Route:
    kind = KINDS[Path(path).suffix or ".html"]

    async def endpoint(request: Request) -> Response:
        return Response(content, headers=HEADERS, media_type=kind)

    return route("GET", path, endpoint)

"""A server of `carsam serve` or `carsam demo` in a process of its own, and clients for it."""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

RUN = "sam-mini-w4a4"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]["message"]


@dataclass(frozen=True)
class Server:
    host: str
    port: int

    def ask(self, method: str, path: str, body=b"", headers=None, *, timeout=120) -> Reply:
        """Send bytes, or a dict as JSON, on a connection of its own."""
        headers = dict(headers or {})
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body, **headers: str) -> Reply:
        return self.ask("POST", path, body, headers)


@contextmanager
def serving(
    *options: str, run: str = RUN, command: str = "serve", **variables: str
) -> Iterator[Server]:
    """Start a server and stop it; what it logs must be nothing but its end."""
    start = [sys.executable, "-m", "carsam", command, run, "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*start, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, process.stderr.read()
        url = urlsplit(address[0])
        yield Server(url.hostname, url.port)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert "Traceback" not in said, said


def photo_file(seed: int, kind: str = "png") -> bytes:
    """Return an image file with a bright disc and noise, different for each seed."""
    rows, columns = np.mgrid[:90, :120]
    pixels = np.random.default_rng(seed).integers(0, 90, (90, 120, 3)).astype(np.uint8)
    x, y = 35 + 13 * seed % 50, 30 + 7 * seed % 30
    pixels[(rows - y) ** 2 + (columns - x) ** 2 < 400] = (220, 40 + 20 * seed % 200, 90)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()

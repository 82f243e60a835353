"""What a server refuses, and that it goes on after it."""

import asyncio
import base64
import shutil
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving import photo_file, serving

from carsam.formats.bundled import run_folder
from carsam.serve.embeddings import Embeddings, Encoded
from carsam.serve.refusals import Gone, Refused
from carsam.serve.settings import Settings
from carsam.serve.work import Work

TOKEN = "a secret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(run_folder("sam-mini-w4a4"), folder)
    return folder


@pytest.fixture(scope="module")
def strict(folder):
    """A server with a token and small limits."""
    options = ("--upload-mb", "1", "--bodies-mb", "1", "--timeout", "3")
    with serving(*options, run=str(folder), CARSAM_TOKEN=TOKEN) as server:
        yield server


def with_token(text=TOKEN):
    return {"Authorization": f"Bearer {text}"}


def test_a_token_is_asked_for_in_the_ways_of_all_clients(strict):
    assert strict.get("/v1/models").status == 401
    assert strict.get("/v1/models", **with_token("a guess")).status == 401
    assert strict.get("/v1/models", **with_token()).status == 200
    assert strict.get("/v1/models", Token=TOKEN).status == 200
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert strict.get("/v1/models", Authorization=f"Basic {basic}").status == 200
    assert strict.get("/health").status == 200


def test_names_of_other_hosts_are_refused(strict):
    assert strict.get("/health", Host="example.com").status == 421
    assert strict.get("/health", Host="localhost:9").status == 200


def test_large_bodies_are_refused_announced_or_not(strict):
    reply = strict.post("/api/images", b"x" * 1_000_001, **with_token())
    assert reply.status == 413
    assert "--upload-mb" in reply.error
    parts = (b"x" * 100_000 for _ in range(11))
    assert strict.ask("POST", "/api/images", parts, with_token()).status == 413


def test_images_that_grow_when_decoded_are_refused(strict):
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4
    reply = strict.post("/api/images", png, **with_token())
    assert reply.status == 413
    assert "50000 x 50000" in reply.error


@pytest.mark.parametrize(
    "content", [b"", b"%!PS-Adobe-3.0 EPSF-3.0", b"GIF8", b"\x89PNG\r\n\x1a\n"]
)
def test_broken_images_and_other_files_are_refused(strict, content):
    assert strict.post("/api/images", content, **with_token()).status == 400


def test_a_slow_upload_ends(strict):
    with socket.create_connection((strict.host, strict.port)) as connection:
        connection.sendall(started_upload())
        connection.settimeout(30)
        assert connection.recv(20).startswith(b"HTTP/1.1 408")


def test_closed_connections_leave_nothing_behind(strict):
    for _ in range(3):
        with socket.create_connection((strict.host, strict.port)) as connection:
            connection.sendall(started_upload())
    deadline = time.monotonic() + 30
    while "carsam_upload_bytes 0" not in (text := metrics(strict)):
        assert time.monotonic() < deadline, text
    assert strict.get("/health").json["status"] == "UP"


def started_upload() -> bytes:
    return (
        f"POST /api/images HTTP/1.1\r\nHost: localhost\r\nToken: {TOKEN}\r\n"
        "Content-Length: 1000\r\n\r\nhalf"
    ).encode()


def metrics(server) -> str:
    return server.get("/metrics", **with_token()).body.decode()


def test_a_run_that_is_replaced_is_served_as_it_was(strict, folder):
    def ask(path, body):
        reply = strict.post(path, body, **with_token())
        return reply.json if reply.status != 504 else ask(path, body)  # a busy machine

    def masks():
        ask("/api/images", photo_file(1))
        key = ask("/api/images", photo_file(2))["image"]
        return ask("/api/predict", {"image": key, "boxes": [[20, 15, 75, 70]]})["masks"]

    before = masks()
    assert strict.get("/health").json["replaced"] is False
    folder.rename(folder.with_name("old"))
    assert strict.get("/health").json["replaced"] is True
    assert masks() == before
    folder.with_name("old").rename(folder)
    assert strict.get("/health").json["replaced"] is False


async def stays() -> None:
    await asyncio.Event().wait()


async def leaves() -> None:
    """A client that goes at once."""


def test_a_click_on_an_image_that_is_kept_does_not_wait_for_others_to_be_encoded():
    with serving("--workers", "1") as server, ThreadPoolExecutor() as others:
        key = server.post("/api/images", photo_file(1)).json["image"]
        sent = [others.submit(server.post, "/api/images", photo_file(n)) for n in range(2, 6)]
        while 'carsam_requests_pending{lane="slow"} 4' not in server.get("/metrics").body.decode():
            assert not any(each.done() for each in sent)
        for box in ([20, 15, 75, 70], [10, 10, 80, 60]):
            assert server.post("/api/predict", {"image": key, "boxes": [box]}).status == 200
        uri = f"data:image/png;base64,{base64.b64encode(photo_file(1)).decode()}"
        marks = [{"type": "point", "data": [40, 40]}]
        request = {"model": "carsam", "image": uri, "params": {"marks": marks}}
        assert server.post("/v1/predict", request).status == 200
        assert not sent[-1].done()
        assert {each.result().status for each in sent} == {200}


def test_a_full_queue_refuses_and_says_when_to_come_again():
    async def check():
        work, go = Work(1, 1, 30), threading.Event()
        jobs = [asyncio.ensure_future(work.run(lambda: go.wait(30), stays)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await work.run(lambda: True, stays)
        go.set()
        assert await asyncio.gather(*jobs) == [True, True]
        work.close()
        return refused.value

    refused = asyncio.run(check())
    assert (refused.status, refused.retry_after) == (503, 1)


def test_what_nobody_waits_for_is_not_begun():
    async def check():
        work, go, begun = Work(1, 5, 30), threading.Event(), []
        first = asyncio.ensure_future(work.run(lambda: go.wait(30), stays))
        await asyncio.sleep(0)
        with pytest.raises(Gone):
            await work.run(lambda: begun.append(1), leaves)
        go.set()
        await first
        assert await work.run(lambda: True, stays)
        work.close()
        return begun, work.pending

    assert asyncio.run(check()) == ([], 0)


def test_an_answer_that_takes_too_long_is_given_up():
    async def check():
        work, go = Work(1, 0, 0.05), threading.Event()
        with pytest.raises(Refused, match="No answer within"):
            await work.run(lambda: go.wait(30), stays)
        assert work.pending == 1  # it still runs, and counts
        go.set()
        work.close()

    asyncio.run(check())


def encoded(content: bytes, kilobytes: int, embeddings: Embeddings) -> Encoded:
    part = np.zeros(kilobytes * 250, np.float32)
    return embeddings.encode(content, lambda key: Encoded(key, (part,), (1, 1), 0.0))


def test_the_embeddings_used_last_stay():
    embeddings = Embeddings(10_000)
    first = encoded(b"first", 4, embeddings)
    second = encoded(b"second", 4, embeddings)
    assert encoded(b"first", 4, embeddings) is first
    encoded(b"third", 4, embeddings)
    encoded(b"larger than all", 11, embeddings)
    assert embeddings.get(first.key) is first
    assert embeddings.get(second.key) is None
    assert (embeddings.nbytes, len(embeddings)) == (8000, 2)
    assert (embeddings.found, embeddings.computed) == (1, 4)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": 0}, "workers 0"),
        ({"timeout": float("nan")}, "timeout nan"),
        ({"bodies_mb": 1}, "for all uploads"),
        ({"port": 70000}, "port 70000"),
        ({"images_from": "localhost:8080"}, "scheme, host and port"),
        ({"images_from": "http://a/b"}, "scheme, host and port"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Settings(**wrong)

"""What `carsam serve` does when many people use it: no wrong answer, and how long they wait.

    python benchmarks/serve_load.py [--clients 50] [--clicks 8] [--workers 2] [--model RUN]

Every client has a picture of its own (640 x 640 pixels), sends it, and then asks for the masks of
boxes on it, one after the other and without pause. All of them start together. Each answer is
compared with that of `SamPredictor` in this process. A client that is told to come again does so
after the seconds it was told; they count.

The numbers go to benchmarks/results/serve_load.json.
"""

import argparse
import hashlib
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from provenance import provenance

from carsam import SamPredictor, load
from carsam.images.run_lengths import RunLengths

RESULT = Path(__file__).parent / "results" / "serve_load.json"
SIZE = 640


@dataclass
class Client:
    """One person: a picture, boxes on it, and what became of them."""

    picture: bytes
    boxes: list[list[int]]
    encode_seconds: float = 0.0
    click_seconds: list[float] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    busy: int = 0

    @classmethod
    def make(cls, seed: int, clicks: int) -> "Client":
        """Draw rectangles and discs that no other seed has."""
        generator = np.random.default_rng(seed)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        pixels = generator.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
        boxes = []
        for _ in range(clicks):
            x, y, radius = (int(n) for n in generator.integers((90, 90, 40), (550, 550, 90)))
            pixels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = generator.integers(
                60, 255, 3
            )
            boxes.append([x - radius, y - radius, x + radius, y + radius])
        file = BytesIO()
        Image.fromarray(pixels).save(file, "jpeg")
        return cls(file.getvalue(), boxes)

    def use(self, address: str, start: threading.Barrier) -> None:
        """Send the picture, then ask for one box after the other."""
        url = urlsplit(address)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=600)
        start.wait()
        began = time.perf_counter()
        self._ask(connection, "/api/images", self.picture, "image/jpeg")
        self.encode_seconds = time.perf_counter() - began
        key = hashlib.sha256(self.picture).hexdigest()
        for box in self.boxes:
            began = time.perf_counter()
            body = json.dumps({"image": key, "boxes": [box]}).encode()
            answer = self._ask(connection, "/api/predict", body, "application/json")
            self.click_seconds.append(time.perf_counter() - began)
            self.answers.append(answer["masks"][0][0])
        connection.close()

    def wrong(self, predictor: SamPredictor) -> int:
        """Return how many answers are not those of the predictor."""
        predictor.set_image(Image.open(BytesIO(self.picture)))
        count = 0
        for box, answer in zip(self.boxes, self.answers, strict=True):
            masks, ious, _ = predictor.predict(box=box, multimask_output=False)
            expected = RunLengths.of_mask(masks[0]).compressed(), float(ious[0])
            count += (answer["segmentation"], answer["predicted_iou"]) != expected
        return count

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, body: bytes, kind: str
    ) -> Any:
        while True:
            connection.request("POST", path, body, {"Content-Type": kind})
            reply = connection.getresponse()
            answer = json.loads(reply.read())
            if reply.status == 200:
                return answer
            if reply.status != 503:
                raise RuntimeError(f"{path}: {reply.status} {answer}")
            self.busy += 1
            time.sleep(int(reply.headers["Retry-After"]))


@contextmanager
def serving(model: str, workers: int) -> Iterator[str]:
    """Start a server with one thread for each worker; give its address."""
    command = [sys.executable, "-m", "carsam", "serve", model, "--port", "0", "--timeout", "600"]
    command += ["--workers", str(workers), "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(60)


def measure(model: str, clients: int, clicks: int, workers: int) -> dict[str, Any]:
    """Let all clients work, and return what they met."""
    people = [Client.make(seed, clicks) for seed in range(clients)]
    start = threading.Barrier(clients)
    with serving(model, workers) as address, ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        for each in [pool.submit(person.use, address, start) for person in people]:
            each.result()
        seconds = time.perf_counter() - began
    predictor = SamPredictor(load(model))
    waits = [second for person in people for second in person.click_seconds]
    return {
        "clients": clients,
        "answers": len(waits),
        "wrong_answers": sum(person.wrong(predictor) for person in people),
        "told_to_come_again": sum(person.busy for person in people),
        "seconds": seconds,
        "encode_seconds": quantiles([person.encode_seconds for person in people]),
        "click_seconds": quantiles(waits),
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return the median, the 95 % quantile and the longest."""
    ordered = sorted(seconds)
    return {
        "median": statistics.median(ordered),
        "95%": ordered[int(0.95 * (len(ordered) - 1))],
        "longest": ordered[-1],
    }


def main() -> None:
    """Measure, print and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sam-mini-w4a4")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--clicks", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    alone = measure(arguments.model, 1, arguments.clicks, arguments.workers)
    print(alone, flush=True)
    together = measure(arguments.model, arguments.clients, arguments.clicks, arguments.workers)
    print(together)
    document = {
        **provenance("carsam", "numpy", "starlette", "uvicorn"),
        "model": arguments.model,
        "pixels": SIZE,
        "workers": arguments.workers,
        "one_client": alone,
        "all_clients": together,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    if alone["wrong_answers"] + together["wrong_answers"]:
        sys.exit("There are wrong answers.")


if __name__ == "__main__":
    main()

"""Counters of a server, as Prometheus reads them."""

from collections import Counter
from collections.abc import Mapping

from carsam.serve.segmenter import Segmenter
from carsam.serve.uploads import Uploads
from carsam.serve.work import Work

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts answers and their seconds, by route."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, float] = {}

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._answers[route, status] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, segmenter: Segmenter, lanes: Mapping[str, Work], uploads: Uploads) -> str:
        """Return all counters."""
        embeddings = segmenter.embeddings
        lines = [
            "# HELP carsam_requests_total Answers by route and status.",
            "# TYPE carsam_requests_total counter",
            *(
                f'carsam_requests_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self._answers.items())
            ),
            "# HELP carsam_request_seconds_total Seconds from a request to its answer.",
            "# TYPE carsam_request_seconds_total counter",
            *(
                f'carsam_request_seconds_total{{route="{route}"}} {seconds:.6f}'
                for route, seconds in sorted(self._seconds.items())
            ),
            "# HELP carsam_requests_pending Requests computed or waiting.",
            "# TYPE carsam_requests_pending gauge",
            *(
                f'carsam_requests_pending{{lane="{name}"}} {lane.pending}'
                for name, lane in lanes.items()
            ),
        ]
        for name, kind, text, value in (
            ("upload_bytes", "gauge", "Bytes of requests in memory.", uploads.nbytes),
            ("embedding_bytes", "gauge", "Bytes of the embeddings kept.", embeddings.nbytes),
            ("embeddings", "gauge", "Embeddings kept.", len(embeddings)),
            ("embeddings_found_total", "counter", "Images not encoded again.", embeddings.found),
            ("embeddings_computed_total", "counter", "Images encoded.", embeddings.computed),
            ("run_replaced", "gauge", "1 if the run was replaced.", int(segmenter.replaced)),
        ):
            lines += [f"# HELP carsam_{name} {text}", f"# TYPE carsam_{name} {kind}"]
            lines.append(f"carsam_{name} {value}")
        return "\n".join(lines) + "\n"

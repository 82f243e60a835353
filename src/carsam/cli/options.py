"""Options that commands share, and the parsing of prompts."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from PIL import Image

from carsam.errors import UserError
from carsam.predict.embeddings import EmbeddingCache
from carsam.progress import Mode, Progress, make_progress
from carsam.threads import MOST_THREADS, set_threads

Device = Literal["auto", "cpu", "cuda"]
EngineName = Literal["auto", "native", "simulated", "float"]

CACHE_VARIABLE = "CARSAM_CACHE"
"""Names the folder of embeddings where `--cache` does not."""


@Parameter(name="*", group="Common options")
@dataclass(frozen=True)
class Common:
    """Options of every command.

    Args:
        quiet: show warnings and results only.
        json_progress: write progress as JSON lines.
        seed: seed of everything random.
        device: where torch computes; auto takes CUDA when there is one.
        threads: threads to compute with; unless given, all processors that the process may use, at
            most $OMP_NUM_THREADS.
        max_megapixels: most million pixels that an image file may have; 89 unless given.
    """

    quiet: Annotated[bool, Parameter(negative="")] = False
    json_progress: Annotated[bool, Parameter(negative="")] = False
    seed: int = 0
    device: Device = "auto"
    threads: int | None = None
    max_megapixels: float | None = None

    def prepare(self) -> None:
        """Set up the process, before torch and transformers are imported: they read it then."""
        if self.quiet and self.json_progress:
            raise UserError("Both --quiet and --json-progress are given; choose one.")
        # Threads that spin while they wait make torch three times slower on a busy machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self._mode() != "auto" or not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers draws its own
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UserError(f"Found --threads {self.threads}; expected 1 to {MOST_THREADS}.")
        set_threads(self.threads)
        if self.max_megapixels is not None:
            if not self.max_megapixels > 0:
                raise UserError(
                    f"Found --max-megapixels {self.max_megapixels}; expected more than 0."
                )
            Image.MAX_IMAGE_PIXELS = int(min(self.max_megapixels * 1e6, sys.maxsize))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Give the reporter these options ask for, and end its stage whatever happens."""
        reporter = make_progress(self._mode())
        try:
            yield reporter
        finally:
            reporter.finish()

    def _mode(self) -> Mode:
        return "quiet" if self.quiet else "json" if self.json_progress else "auto"


def embedding_cache(folder: Path | None, progress: Progress) -> EmbeddingCache | None:
    """Return the cache that `--cache` or $CARSAM_CACHE names, or None."""
    named = folder or os.environ.get(CACHE_VARIABLE)
    return EmbeddingCache(Path(named).expanduser(), progress.warn) if named else None


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Read `x0,y0,x1,y1` in pixels of the photo."""
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise UserError(f'Box "{text}" is not understood; write x0,y0,x1,y1 in pixels.')
    return numbers[0], numbers[1], numbers[2], numbers[3]


def parse_point(text: str) -> tuple[float, float, int]:
    """Read `x,y` or `x,y,label` in pixels of the photo; label 1 is foreground, 0 background."""
    numbers = _numbers(text)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise UserError(
            f'Point "{text}" is not understood; write x,y in pixels, or x,y,0 for background.'
        )
    return numbers[0], numbers[1], int(numbers[2]) if len(numbers) == 3 else 1


def parse_gigabytes(text: str) -> float:
    """Read `4GB`, `500MB` or `4`, which are gigabytes too."""
    match = re.fullmatch(r"(\d+\.?\d*)\s*(GB|MB|)", text.strip(), re.IGNORECASE)
    if match is None:
        raise UserError(f'Memory "{text}" is not understood; write for example 4GB or 500MB.')
    return float(match[1]) / (1000 if match[2].upper() == "MB" else 1)


def _numbers(text: str) -> list[float]:
    """Return the numbers of a comma-separated list, none when one of them is not a number."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []

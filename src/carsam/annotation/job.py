"""What every worker of one annotation knows, and what one shard of it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carsam.annotation.items import Part
from carsam.annotation.outputs import find_output
from carsam.annotation.prompting.base import Prompting
from carsam.annotation.storage import Storage

IDS_IN_A_SHARD = 10**7
"""Numbers that each shard has for its annotations, so that shards can be put together."""


@dataclass(frozen=True)
class Job:
    """One annotation. It can be pickled.

    Args:
        model: what `carsam.engines.load` takes.
        engine: name of the arithmetic.
        device: where torch computes, for its engines.
        threads: of each worker.
        pixels: most pixels that an image may have, or None.
        prompting: asks for masks.
        output: name of the form of results.
        out: where the shards go.
        info: what goes into every shard's information.
    """

    model: str
    engine: str
    device: str
    threads: int
    pixels: int | None
    prompting: Prompting
    output: str
    out: Storage
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Shard:
    """The images of one file of results; `number` counts the shards of all machines from 0."""

    number: int
    part: Part

    def file(self, output: str) -> str:
        """Return the name of the file."""
        return f"shard-{self.number:06}{find_output(output).ending}"


@dataclass(frozen=True)
class Done:
    """A shard that was written, and how much is in it."""

    shard: int
    images: int
    masks: int
    errors: int

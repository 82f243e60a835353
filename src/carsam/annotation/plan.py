"""Which shards there are, and the file beside them by which an annotation recognises itself."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from carsam.annotation.items import Part
from carsam.annotation.job import Job, Shard
from carsam.errors import UserError, few
from carsam.formats.bundled import is_run
from carsam.formats.checkpoint import read_checkpoint

PLAN_FILE = "annotation.json"

MEANINGS = {
    "model": "another model",
    "prompts": "other prompts",
    "images": "other images, or another --shard-size",
    "output": "another form",
}
"""Entries of the plan, and what it means when they differ."""


def begin(job: Job, parts: Sequence[Part]) -> list[Shard]:
    """Return all shards whose file is not there yet; write the plan where there is none.

    Machines that begin at the same time write the same plan.

    Raises:
        UserError: the folder holds another annotation.
    """
    plan = _plan(job, parts)
    there = set(job.out.names())
    if PLAN_FILE in there:
        _check_same(plan, job)
    else:
        stray = sorted(name for name in there if name.startswith("shard-"))
        if stray:
            raise UserError(
                f"{job.out} has shards ({few(stray)}) but no {PLAN_FILE} that says what of. Choose "
                "another folder."
            )
        job.out.write(PLAN_FILE, json.dumps(plan, indent=2).encode() + b"\n")
    shards = [Shard(number, part) for number, part in enumerate(parts)]
    return [shard for shard in shards if shard.file(job.output) not in there]


def _plan(job: Job, parts: Sequence[Part]) -> dict[str, Any]:
    keys = "\n".join(part.key for part in parts)
    fingerprint = read_checkpoint(job.model).fingerprint if is_run(job.model) else job.model
    return {
        "format": "carsam-annotation",
        "version": 1,
        "model": f"{fingerprint} {job.engine}",
        "prompts": job.prompting.identity,
        "images": hashlib.sha256(keys.encode(errors="surrogateescape")).hexdigest(),
        "output": job.output,
        "shards": len(parts),
        "info": dict(job.info),
    }


def _check_same(plan: dict[str, Any], job: Job) -> None:
    try:
        found = json.loads(job.out.read(PLAN_FILE))
        same_kind = (found["format"], found["version"]) == (plan["format"], plan["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{job.out}/{PLAN_FILE} is no plan of an annotation ({error}). Choose another folder."
        ) from error
    different = [said for key, said in MEANINGS.items() if found.get(key) != plan[key]]
    if different or not same_kind:
        raise UserError(
            f"{job.out} holds an annotation with {few(different) or 'another version'}. Choose "
            "another folder, or give the same arguments to go on with it."
        )

"""What calibration is going to keep, and whether memory and disk have room for it."""

import shutil
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carsam.calibration.course import Course
from carsam.errors import UserError
from carsam.families.base import Stage, State, split_after_encoder
from carsam.families.video import PER_OBJECT
from carsam.system import peak_memory

USABLE = 0.9  # of what is free

USUAL = 750_000_000
"""Bytes of activations that stay in memory unless the user says how many; a disk is as fast for
the rest, most of which the operating system still has in memory when it is read."""


@dataclass(frozen=True)
class StateSize:
    """The bytes of some of one image's tensors, and of them what every box of the image adds."""

    shared: int
    each_box: float

    def of(self, boxes: Sequence[int]) -> int:
        """Return the bytes for images with these numbers of boxes."""
        return round(self.shared * len(boxes) + self.each_box * sum(boxes))


@dataclass(frozen=True)
class UnitSizes:
    """What one image's states take before and after a unit, and together: they share tensors."""

    before: StateSize
    after: StateSize
    together: StateSize


def unit_sizes(
    model: Any, units: Iterable[Sequence[Stage]], states: Sequence[State]
) -> list[UnitSizes]:
    """Return the sizes of the states around every unit; a unit is consecutive stages.

    The image with the most boxes runs through the model once for their shapes.

    Args:
        states: all of stills, or all of clips.
    """
    state = max(states, key=prompts_in)
    boxes, by_box = prompts_in(state), {"prompts", *PER_OBJECT}
    sizes = []
    for stages in units:
        begin, tensors = state, _tensors(state, by_box)
        for stage in stages:
            with torch.no_grad():
                state = stage.run(model, state)
            by_box = by_box.difference(stage.outputs).union(stage.per_box)
        after = _tensors(state, by_box)
        sizes.append(UnitSizes(*(_size(t, boxes) for t in (tensors, after, tensors | after))))
        del begin  # until now, so that no tensor took the place of another
    return sizes


def prompts_in(state: State) -> int:
    """Return the number of prompts of an image, before its first stage, or of objects of a clip."""
    return (state["prompts"] if "prompts" in state else state["labels"]).shape[1]


def activations(
    course: Course,
    states: Sequence[State],
    views: Sequence[State] = (),
    clips: Sequence[State] = (),
) -> dict[str, int]:
    """Return the bytes of activations kept during each unit and each closing step, by its name.

    During a unit those are the states before and after it, of all images, in float and, if a step
    reads it, those before it along the quantized path, which then give way one by one to those
    after it; what the teacher keeps; and during a closing step what the teacher and the step keep.

    Args:
        states, views, clips: as of `quantize_units_`.
    """
    needs = _activations(course, states, views)
    more = _activations(course, clips, ()) if clips else {}
    return {name: need + more.get(name, 0) for name, need in needs.items()}


def _activations(course: Course, states: Sequence[State], views: Sequence[State]) -> dict[str, int]:
    """Return the bytes of stills, or of clips."""
    boxes = [prompts_in(state) for state in states]
    seen = boxes + [prompts_in(state) for state in views]
    plans = [plan.stages for plan in course.plans]
    around = unit_sizes(course.model, plans, states)
    embedding = _embedding(course, around, states).of(seen)
    teacher = embedding if course.needs_teacher else 0
    needs = {}
    for plan, sizes in zip(course.plans, around, strict=True):
        before, after, together = (
            size.of(boxes) for size in (sizes.before, sizes.after, sizes.together)
        )
        needs[plan.name] = teacher + together
        if course.needs_quantized_path:
            needs[plan.name] = teacher + max(together + before, after + max(before, after))
    for name, step in course.closing:
        needs[name] = teacher + (embedding if step.kept_after(course.stages) else 0)
    return needs


def _embedding(course: Course, around: Sequence[UnitSizes], states: Sequence[State]) -> StateSize:
    """Return the size of the state after the encoder; nothing if no step keeps it."""
    if not course.needs_embeddings and not course.closing:
        return StateSize(0, 0.0)
    encoder, _ = split_after_encoder(course.stages)
    for plan, sizes in zip(course.plans, around, strict=True):
        if plan.stages[-1:] == encoder[-1:]:
            return sizes.after
    return unit_sizes(course.model, [encoder], states)[0].after


def room(
    needs: Mapping[str, int],
    memory: float | None,
    folder: Path,
    device: torch.device,
    sharers: int = 1,
) -> int:
    """Return how many bytes of activations stay in memory, or refuse what fits nowhere.

    Args:
        needs: of `activations`.
        memory: gigabytes of activations that stay in memory at most; None keeps `USUAL` of them if
            the disk has room for the rest, and all of them on a device with memory of its own.
        folder: where the disk is.
        device: whose memory it is.
        sharers: processes like this one that memory and disk must do for.

    Raises:
        UserError: saying what is needed and what is there.
    """
    name, needed = max(needs.items(), key=lambda need: need[1])
    free = shutil.disk_usage(folder).free // sharers
    if memory is not None:
        kept = min(needed, round(memory * 1e9))
    elif device.type == "cpu":
        kept = min(needed, max(USUAL, round(needed - USABLE * free)))
    else:
        kept = needed
    each = f" for each of {sharers} processes" if sharers > 1 else ""
    message = f"Calibration keeps {_gb(needed)} of activations during {name}; "
    there = available_memory(device)
    if there is not None:
        there //= sharers
    if there is not None and kept > USABLE * there:
        raise UserError(
            f"{message}{_gb(kept)} would stay in memory, where {_gb(there)} are free{each}. Keep "
            f"the rest on disk (memory of at most {USABLE * there / 1e9:.1f} GB), or use fewer "
            "images or boxes."
        )
    if needed - kept > USABLE * free:
        raise UserError(
            f"{message}{_gb(kept)} may stay in memory and the disk of {folder} has {_gb(free)} "
            f"free{each}. Use fewer images or boxes, more memory, or another disk (TMPDIR)."
        )
    return kept


def memory_line(needs: Mapping[str, int], kept: int) -> str:
    """Say what the largest unit keeps, how much of it in memory, and what the process needed."""
    name, needed = max(needs.items(), key=lambda need: need[1])
    disk = f", {_gb(needed - kept)} of it on disk" if needed > kept else ""
    return (
        f"Memory: about {_gb(peak_memory() + kept)}; activations take up to {_gb(needed)}{disk}, "
        f"during {name}."
    )


def available_memory(device: torch.device) -> int | None:
    """Return the bytes a process can still have on a device; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024  # given in kB
    group = Path("/sys/fs/cgroup")  # a container's own limit, version 2
    limit = group / "memory.max"
    if limit.exists() and limit.read_text().strip() != "max":
        counts = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(dict(counts)["inactive_file"])  # given up when memory is short
        used = int((group / "memory.current").read_text()) - cached
        free = min(free, int(limit.read_text()) - used)
    return free


def _tensors(state: State, by_box: Set[str]) -> dict[int, tuple[bool, int]]:
    """Return of every tensor whether it grows with the boxes, and its bytes."""
    return {id(tensor): (name in by_box, tensor.nbytes) for name, tensor in state.items()}


def _size(tensors: Mapping[int, tuple[bool, int]], boxes: int) -> StateSize:
    growing = sum(size for grows, size in tensors.values() if grows)
    return StateSize(sum(size for _, size in tensors.values()) - growing, growing / boxes)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"

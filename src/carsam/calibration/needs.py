"""What calibration is going to keep, and whether memory and disk have room for it."""

import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carsam.calibration.course import Course
from carsam.errors import UserError
from carsam.families.base import Stage, State, split_before_boxes
from carsam.system import peak_memory

USABLE = 0.9  # of what is free


@dataclass(frozen=True)
class StateSize:
    """The bytes of one image's state, and of it what every box of the image adds."""

    shared: int
    each_box: float

    def of(self, boxes: Sequence[int]) -> int:
        """Return the bytes of the states of images with these numbers of boxes."""
        return round(self.shared * len(boxes) + self.each_box * sum(boxes))


def state_sizes(model: Any, stages: Sequence[Stage], states: Sequence[State]) -> list[StateSize]:
    """Return the sizes of the state before the first stage and after every one.

    The image with the most boxes runs through the model once for their shapes.
    """
    state = max(states, key=lambda state: state["boxes"].shape[1])
    boxes, by_box = state["boxes"].shape[1], {"boxes"}
    sizes = [_size(state, by_box, boxes)]
    for stage in stages:
        with torch.no_grad():
            state = stage.run(model, state)
        by_box = by_box.difference(stage.outputs).union(stage.per_box)
        sizes.append(_size(state, by_box, boxes))
    return sizes


def activations(
    course: Course, states: Sequence[State], views: Sequence[State] = ()
) -> dict[str, int]:
    """Return the bytes of activations kept during each unit and each closing step, by its name.

    During a unit those are the states before and after it, of all images, in float and, if a step
    reads it, along the quantized path; what the teacher keeps; and during a closing step what the
    teacher and the step keep.

    Args:
        states, views: as of `quantize_units_`.
    """
    sizes = state_sizes(course.model, course.stages, states)
    boxes = [state["boxes"].shape[1] for state in states]
    seen = boxes + [state["boxes"].shape[1] for state in views]
    teacher = 0
    if course.needs_teacher:
        teacher = sizes[len(split_before_boxes(course.stages)[0])].of(seen)
    needs, paths, begin = {}, 2 if course.needs_quantized_path else 1, 0
    for plan in course.plans:
        end = begin + len(plan.stages)
        needs[plan.name] = teacher + paths * (sizes[begin].of(boxes) + sizes[end].of(boxes))
        begin = end
    for name, step in course.closing:
        kept = step.kept_after(course.stages)
        needs[name] = teacher + (sizes[len(kept)].of(seen) if kept else 0)
    return needs


def check_room(
    needs: Mapping[str, int], memory: float | None, folder: Path, device: torch.device
) -> None:
    """Refuse what fits neither memory nor disk.

    Args:
        needs: of `activations`.
        memory: gigabytes of activations that stay in memory; None for all.
        folder: where the disk is.
        device: whose memory it is.

    Raises:
        UserError: saying what is needed and what is there.
    """
    name, needed = max(needs.items(), key=lambda need: need[1])
    kept = needed if memory is None else min(needed, round(memory * 1e9))
    message = f"Calibration keeps {_gb(needed)} of activations during {name}; "
    there = available_memory(device)
    if there is not None and kept > USABLE * there:
        raise UserError(
            f"{message}{_gb(kept)} would stay in memory, where {_gb(there)} are free. Keep the "
            f"rest on disk (memory of at most {USABLE * there / 1e9:.1f} GB), or use fewer images "
            "or boxes."
        )
    free = shutil.disk_usage(folder).free
    if needed - kept > USABLE * free:
        raise UserError(
            f"{message}{_gb(kept)} may stay in memory and the disk of {folder} has {_gb(free)} "
            "free. Use fewer images or boxes, more memory, or another disk (TMPDIR)."
        )


def memory_line(needs: Mapping[str, int], memory: float | None) -> str:
    """Say what the largest unit keeps, and what the process has needed so far."""
    name, needed = max(needs.items(), key=lambda need: need[1])
    kept = needed if memory is None else min(needed, round(memory * 1e9))
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


def _size(state: State, by_box: Set[str], boxes: int) -> StateSize:
    """Return a state's size; two names of one tensor count once."""
    entries = {id(tensor): (name in by_box, tensor.nbytes) for name, tensor in state.items()}
    growing = sum(size for grows, size in entries.values() if grows)
    return StateSize(sum(size for _, size in entries.values()) - growing, growing / boxes)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"

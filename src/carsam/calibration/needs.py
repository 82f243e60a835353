"""What calibration is going to keep, and whether memory and disk have room for it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from carsam.errors import UserError
from carsam.families.base import State
from carsam.methods.units import UnitPlan
from carsam.system import peak_memory

USABLE = 0.9  # of what is free


def activations_by_unit(
    model: Any, plans: Sequence[UnitPlan], states: Sequence[State], two_paths: bool
) -> dict[str, int]:
    """Return the bytes of activations kept during each unit, by its name.

    Those are the states before and after it, of all images, in float and, with `two_paths`, along
    the quantized path. The image with the most boxes runs through the model once for their shapes.
    """
    boxes = [state["boxes"].shape[1] for state in states]
    state = states[boxes.index(max(boxes))]
    needs = {}
    for plan in plans:
        with torch.no_grad():
            after = plan.run(model, state)
        needs[plan.name] = (2 if two_paths else 1) * (_bytes(state, boxes) + _bytes(after, boxes))
        state = after
    return needs


def check_room(
    needs: Mapping[str, int], memory: float | None, folder: Path, device: torch.device
) -> None:
    """Refuse what fits neither memory nor disk.

    Args:
        needs: of `activations_by_unit`.
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


def _bytes(state: State, boxes: Sequence[int]) -> int:
    """Return the bytes of a state for all images, from that of the image with the most boxes."""
    total = 0.0
    for tensor in {id(tensor): tensor for tensor in state.values()}.values():
        by_box = tensor.ndim > 2 and tensor.shape[1] == max(boxes)
        total += tensor.nbytes * (sum(boxes) / max(boxes) if by_box else len(boxes))
    return round(total)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"

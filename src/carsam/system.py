"""What differs between operating systems: the memory of this process, and starting another."""

import sys
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")

MALLOC_OPTIONS = {-4: 0, -1: 1 << 30}
"""glibc's M_MMAP_MAX: no block has a mapping of its own; M_TRIM_THRESHOLD: what may stay free."""

GROWTH = 300_000_000
"""Bytes that a process may grow by before freed memory is returned."""


def peak_memory() -> int:
    """Return the most memory this process has held so far, in bytes; 0 where it is not known."""
    return linux_memory("VmHWM") or _windows_memory()[0] or _unix_peak()


def resident_memory() -> int:
    """Return the memory this process holds, in bytes; its peak where only that is known."""
    return linux_memory("VmRSS") or _windows_memory()[1] or _unix_peak()


class FreedMemory:
    """What glibc's allocator keeps of the memory that calibration frees.

    Calibration makes and drops tensors of many megabytes all the time. Fresh pages for each of them
    cost more than the arithmetic of a global attention, so what is freed is kept, up to 1 GB at the
    heap's end. Small tensors that stay split the room that a large one has left, and the next large
    one takes new room: from image to image more is kept that nothing uses, which `limit` returns.
    Other C libraries are left as they are.
    """

    def __init__(self) -> None:
        self._library: Any = None
        self._usual = 0  # bytes of the process; 0 until the next image has run

    def keep(self) -> None:
        """Let the allocator keep what is freed."""
        if not sys.platform.startswith("linux"):
            return
        import ctypes

        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
            self._library = library
            for option, value in MALLOC_OPTIONS.items():
                library.mallopt(option, value)

    def limit(self) -> None:
        """Return all that is kept if the process has grown by `GROWTH` since that was done last.

        To be called where an image's tensors, or a training step's, have been dropped.
        """
        if self._library is None:
            return
        if not self._usual:
            self._usual = resident_memory()
        elif resident_memory() > self._usual + GROWTH:
            self._library.malloc_trim(0)
            self._usual = 0


freed_memory = FreedMemory()


def python_command(module: str) -> list[str]:
    """Return the command that calls a module's `main` in a new process.

    It finds modules where this process does. `python -m` would look in the current folder first,
    where any `json.py` would take the place of Python's own.
    """
    return [
        sys.executable,
        "-c",
        f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()",
    ]


def linux_memory(key: str, status: Path = STATUS) -> int:
    """Return a size in a process's status, in bytes; 0 on other systems and once it has ended.

    Args:
        key: such as VmHWM, the peak.
        status: the process's `/proc/ID/status`; this process's own unless given.
    """
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(kilobytes[0]) * 1024 if kilobytes else 0


def _windows_memory() -> tuple[int, int]:
    """Return the peak and the present size of the working set on Windows, else zeros."""
    if sys.platform != "win32":
        return 0, 0
    import ctypes
    from ctypes import wintypes

    sizes = ("peak", "now", "a", "b", "c", "d", "page_file", "peak_page_file")

    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS
        _fields_ = (
            ("bytes", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            *((name, ctypes.c_size_t) for name in sizes),
        )

    counters = Counters(bytes=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = (
        wintypes.HANDLE,
        ctypes.POINTER(Counters),
        wintypes.DWORD,
    )
    process = kernel.GetCurrentProcess()
    kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.bytes)
    return counters.peak, counters.now


def _unix_peak() -> int:
    """Return the peak as other systems know it, of which Windows is none; else 0."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # others count in kB

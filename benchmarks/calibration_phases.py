"""Where the time and the memory of a calibration go: processor seconds and peak per phase.

    python benchmarks/calibration_phases.py sam-mini IMAGES --coco CALIBRATION.json \
        --recipes carsam,carsam-plus --count 32 [--threads 1] [--set step.parameter=value]

Every recipe runs in a process of its own. A phase's seconds are processor time of the process
without the phases inside it; its peak is that of the resident memory meanwhile (Linux; 0
elsewhere). The numbers go to benchmarks/results/calibration_phases.json, or to --out.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from provenance import provenance

from carsam.calibration import loop, quantize
from carsam.calibration.caches import StateCache
from carsam.calibration.calibration_set import CalibrationSet
from carsam.methods import registry
from carsam.methods.steps.softmax.searched_softmax import SearchedSoftmax
from carsam.methods.steps.training import polish, reconstruct
from carsam.system import peak_memory, resident_memory
from carsam.threads import set_threads

RESULT = Path(__file__).parent / "results" / "calibration_phases.json"
RESET = Path("/proc/self/clear_refs")  # 5 lets the peak begin anew


class Phases:
    """Measures the phases that functions stand for."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.peaks: dict[str, int] = {}
        self._open: list[str] = []
        self._since = time.process_time()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Give everything inside to a phase."""
        self._turn()
        self._open.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def measure(self, holder: Any, function: str, name: str, nested: bool = True) -> None:
        """Make a function of a class or module a phase; `nested`: also inside another one."""
        inner: Callable = getattr(holder, function)

        @wraps(inner)
        def outer(*arguments: Any, **named: Any) -> Any:
            if self._open and not nested:
                return inner(*arguments, **named)
            with self.phase(name):
                return inner(*arguments, **named)

        setattr(holder, function, outer)

    def to_json(self) -> dict[str, Any]:
        """Return the phases, the longest first."""
        self._turn()
        return {
            name: {
                "seconds": round(seconds, 2),
                "calls": self.calls[name],
                "peak_gb": round(self.peaks[name] / 1e9, 2),
            }
            for name, seconds in self.seconds.most_common()
        }

    def _turn(self) -> None:
        name, now = self._open[-1] if self._open else "everything else", time.process_time()
        self.seconds[name] += now - self._since
        self.peaks[name] = max(self.peaks.get(name, 0), peak_memory())
        self._since = now
        if RESET.exists():
            RESET.write_text("5")


def measured() -> Phases:
    """Make phases of what a calibration does."""
    phases = Phases()
    phases.measure(quantize, "load_model", "load the model")
    phases.measure(CalibrationSet, "states", "images and boxes")
    phases.measure(CalibrationSet, "views", "other views")
    phases.measure(loop, "run_observed", "units: float outputs and statistics")
    phases.measure(StateCache, "keep", "units: quantized path, float encoder", nested=False)
    phases.measure(polish.Polish, "_train_", "polish: training")
    phases.measure(polish._Loss, "mean", "polish: loss before and after")
    phases.measure(reconstruct.Reconstruct, "_train_", "reconstruct: training")
    phases.measure(reconstruct, "final_loss", "reconstruct: loss before and after")
    steps = {**registry.OPENING_STEPS, **registry.STEPS, **registry.CLOSING_STEPS}
    for name, step in steps.items():
        if "run_" in vars(step):
            phases.measure(step, "run_", name)
    phases.measure(SearchedSoftmax, "run_", "softmax grids")
    return phases


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Quantize with one recipe in this process."""
    set_threads(arguments.threads)
    phases = measured()
    started = time.perf_counter()
    quantize.quantize(
        arguments.model,
        arguments.images,
        arguments.recipes,
        coco=arguments.coco,
        count=arguments.count,
        prompts_per_image=arguments.boxes,
        settings=arguments.set,
        memory=arguments.memory,
        device="cpu",
    )
    parts = phases.to_json()
    return {
        "seconds": round(sum(part["seconds"] for part in parts.values()), 1),
        "wall_seconds": round(time.perf_counter() - started, 1),
        "peak_gb": max(part["peak_gb"] for part in parts.values()),
        "at_the_end_gb": round(resident_memory() / 1e9, 2),
        "phases": parts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--recipes", default="carsam,carsam-plus")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--boxes", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, help="gigabytes of activations")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--here", action="store_true", help="run one recipe here, print its json")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(run(arguments)))
        return
    settings = {
        key: getattr(arguments, key) for key in ("count", "boxes", "threads", "memory", "set")
    }
    report = {**provenance("torch", "transformers", "numpy"), "model": arguments.model, **settings}
    report["recipes"] = {}
    for recipe in arguments.recipes.split(","):
        command = [sys.executable, *sys.argv, "--here", "--recipes", recipe]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report["recipes"][recipe] = json.loads(done.stdout.splitlines()[-1])
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        print_phases(recipe, report["recipes"][recipe])


def print_phases(recipe: str, cost: dict[str, Any]) -> None:
    """Print one recipe's phases."""
    print(f"{recipe}: {cost['seconds']} s of processor time, peak {cost['peak_gb']} GB")
    for name, part in cost["phases"].items():
        print(f"  {part['seconds']:8.1f} s {part['calls']:5d} x {part['peak_gb']:6.2f} GB  {name}")


if __name__ == "__main__":
    main()

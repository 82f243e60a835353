"""Who takes part: engines of this package and other runtimes, by name. Imports neither."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carsam.benchmark import tracking
from carsam.engines.base import Engine
from carsam.errors import UserError
from carsam.threads import set_threads

TORCH = ("torch", "transformers")
ONNX = (*TORCH, "onnx", "onnxruntime", "onnxscript")
OPENVINO = (*ONNX, "openvino")


@dataclass(frozen=True)
class Runner:
    """One way to run a model.

    Args:
        open: takes a folder and a number of threads, returns the engine.
        format: what the folder is: a format of `peers.build`, or None for the run itself.
        packages: import names of what it needs, to build its model and to run it.
        extra: that installs them.
        track: follows objects with the engine, if it has a memory.
    """

    open: Callable[[Path, int], Engine]
    format: str | None = None
    packages: tuple[str, ...] = ()
    extra: str = "quantize"
    track: tracking.Open | None = None


@dataclass(frozen=True)
class Contender:
    """One row of the result.

    Args:
        name: unique in the result.
        runner: key of `RUNNERS`.
        folder: what it opens.
        instruction_set: that the native engine is made to use; the best unless given.
        memory_frames: that a frame recalls beside the prompted one; the model's number unless
            given.
    """

    name: str
    runner: str
    folder: Path
    instruction_set: str | None = None
    memory_frames: int | None = None


def runners_named(names: str) -> list[str]:
    """Return keys of `RUNNERS` for names separated by commas; a group stands for its members.

    Raises:
        UserError: a name is not known, or there is none.
    """
    found: list[str] = []
    for name in filter(None, names.split(",")):
        if name not in RUNNERS:
            raise UserError(f"Engine {name} is not known; expected {', '.join(RUNNERS)}.")
        found += [member for member in GROUPS.get(name, (name,)) if member not in found]
    if not found:
        raise UserError(f"Found no engine; expected one or more of {', '.join(RUNNERS)}.")
    return found


def contenders(
    run: Path,
    runners: Sequence[str],
    sets: Sequence[str],
    also: Sequence[Path],
    peers: Path,
    fewer_memories: Sequence[int] = (),
) -> list[Contender]:
    """Return the rows.

    Args:
        run: the quantized model.
        runners: keys of `RUNNERS`.
        sets: instruction sets, each of which the native engine gets a row for; the first's row has
            the plain name.
        also: more quantized models for the native engine.
        peers: folder of the other runtimes' models.
        fewer_memories: numbers of frames that the native engine recalls in a row more for each.
    """
    rows = []
    for name in runners:
        format = RUNNERS[name].format
        if name == "native":
            rows += _native_rows(run, sets, also)
            for count in fewer_memories:
                name = f"native:{count}-memories"
                rows.append(Contender(name, "native", run, memory_frames=count))
        else:
            rows.append(Contender(name, name, run if format is None else peers / format))
    return rows


def _native_rows(run: Path, sets: Sequence[str], also: Sequence[Path]) -> list[Contender]:
    rows = []
    for folder in (run, *also):
        base = "native" if folder == run else f"native:{folder.name}"
        for number, chosen in enumerate(sets or (None,)):
            name = f"{base}:{chosen}" if number else base
            rows.append(Contender(name, "native", folder, chosen))
    return rows


def _native(folder: Path, threads: int) -> Engine:
    from carsam.engines.native_video_engine import native_engine
    from carsam.formats.checkpoint import read_checkpoint

    return native_engine(read_checkpoint(folder), threads)


def _simulated(folder: Path, threads: int) -> Engine:
    from carsam.engines.load import load

    _limit_torch(threads)
    return load(folder, "simulated", "cpu")


def _transformers(attention: str) -> Callable[[Path, int], Engine]:
    def open_model(folder: Path, threads: int) -> Engine:
        import torch
        from transformers import AutoConfig

        from carsam.engines.torch_engine import TorchEngine
        from carsam.families import load_model
        from carsam.families.registry import architecture_of

        _limit_torch(threads)
        model: Any = architecture_of(AutoConfig.from_pretrained(folder)).from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention
        )
        return TorchEngine(*load_model(model), "float")

    return open_model


def _limit_torch(threads: int) -> None:
    import torch

    set_threads(threads)
    torch.set_num_interop_threads(1)


def _float(attention: str) -> Runner:
    follow = tracking.transformers_session
    return Runner(_transformers(attention), "float", TORCH, track=follow)


def _onnxruntime(folder: Path, threads: int) -> Engine:
    from carsam.benchmark.peers.engines import onnxruntime_engine

    return onnxruntime_engine(folder, threads)


def _openvino(precision: str | None) -> Callable[[Path, int], Engine]:
    def open_model(folder: Path, threads: int) -> Engine:
        from carsam.benchmark.peers.engines import openvino_engine

        return openvino_engine(folder, threads, precision)

    return open_model


RUNNERS = {
    "native": Runner(_native, track=tracking.session),
    "simulated": Runner(_simulated, None, TORCH, track=tracking.session),
    "float": _float("sdpa"),
    "float-eager": _float("eager"),
    "onnxruntime": Runner(_onnxruntime, "onnx", ONNX, "bench"),
    "onnxruntime-int8": Runner(_onnxruntime, "onnx-int8", ONNX, "bench"),
    "onnxruntime-dynamic": Runner(_onnxruntime, "onnx-dynamic", ONNX, "bench"),
    "openvino": Runner(_openvino("f32"), "openvino", OPENVINO, "bench"),
    "openvino-bf16": Runner(_openvino("bf16"), "openvino", OPENVINO, "bench"),
    "openvino-int8": Runner(_openvino(None), "openvino-int8", (*OPENVINO, "nncf"), "bench"),
    "openvino-int8-f32": Runner(_openvino("f32"), "openvino-int8", (*OPENVINO, "nncf"), "bench"),
}
"""`float` is transformers' default attention, sdpa. OpenVINO's int8 model chooses itself what to
compute the rest in, unless it is float32."""

GROUPS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-int8", "onnxruntime-dynamic"),
    "openvino": ("openvino", "openvino-int8"),
}
"""Names that stand for several."""

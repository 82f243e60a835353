"""Other runtimes as engines. Each imports its package when it opens a model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from carsam.engines.base import Embedding
from carsam.images.preprocess import Framing
from carsam.images.prompts import Prompts

Run = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Runs an encoder or a decoder: inputs in, outputs out, both in the model's order."""

Open = Callable[[str], tuple[Run, Sequence[int]]]
"""Opens the model of a name; returns how to run it, and the shape of its first input."""


class PeerEngine:
    """Runs the files of `peers.build`; decodes boxes only, one mask each.

    Args:
        open_model: opens `encoder`, and `decoder_P` for P boxes.
        threads: that it computes with.
        precision: in which the runtime computes what is not int8, as it says itself.
    """

    mode = "peer"

    def __init__(self, open_model: Open, threads: int, precision: str = "f32") -> None:
        self.threads, self.precision = threads, precision
        self._open = open_model
        self._encoder, shape = open_model("encoder")
        self.framing = Framing(int(shape[-1]))
        self._decoders = {1: open_model("decoder_1")[0]}

    def encode(self, pixels: np.ndarray) -> Embedding:
        """Return the image embedding of `pixels` (3, S, S) float32."""
        return tuple(part[0] for part in self._encoder([pixels[None]]))

    def decode(
        self, embedding: Embedding, prompts: Prompts, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (P, 1, 4h, 4w) and predicted IoUs (P, 1)."""
        assert prompts.boxes is not None and not multimask_output
        count = len(prompts)
        if count not in self._decoders:
            self._decoders[count] = self._open(f"decoder_{count}")[0]
        parts = [part[None] for part in embedding]
        masks, ious = self._decoders[count]([prompts.boxes[None], *parts])
        return masks[0], ious[0]


def onnxruntime_engine(folder: Path, threads: int) -> PeerEngine:
    """Open ONNX files with ONNX Runtime on `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads may spin during a run, but not after it, when another process is measured.
    options.add_session_config_entry("session.force_spinning_stop", "1")

    def open_model(name: str) -> tuple[Run, Sequence[int]]:
        path = folder / f"{name}.onnx"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        names = [entry.name for entry in inputs]

        def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
            return session.run(None, dict(zip(names, arrays, strict=True)))

        return run, inputs[0].shape

    return PeerEngine(open_model, threads)


def openvino_engine(folder: Path, threads: int, precision: str | None) -> PeerEngine:
    """Open files of OpenVINO with its latency hint on `threads` threads.

    Args:
        precision: f32 or bf16 for what is not int8; OpenVINO's own choice unless given.
    """
    import openvino

    core = openvino.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision is not None:
        options["INFERENCE_PRECISION_HINT"] = precision

    def open_model(name: str) -> tuple[Run, Sequence[int]]:
        compiled = core.compile_model(folder / f"{name}.xml", "CPU", options)
        outputs = range(len(compiled.outputs))

        def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
            results = compiled(arrays)
            return [results[index] for index in outputs]

        return run, compiled.inputs[0].shape

    if precision is None:
        chosen = core.get_property("CPU", "INFERENCE_PRECISION_HINT")
        precision = chosen.to_string()
    return PeerEngine(open_model, threads, precision)

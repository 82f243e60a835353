"""What an engine of a model with a memory offers beside `base.Engine`. Needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from carsam.engines.base import Embedding, Engine
from carsam.images.prompts import Prompts

PIXELS_OF_CELL = 16
"""Of a mask that is remembered, along a side of a cell of the embedding; the decoder makes 4."""


class Recollection(NamedTuple):
    """What is remembered of one object; `carsam.families.video.Recollection` in numpy.

    Args:
        values, positions: (n, D) float32.
        cells: (n,) int64, -1 for tokens without a rotary position.
    """

    values: np.ndarray
    positions: np.ndarray
    cells: np.ndarray


class Tracked(NamedTuple):
    """What the decoder finds of P objects; `carsam.families.video.Tracked` in numpy, float32.

    Args:
        masks: logits (P, M, 4h, 4w).
        ious: (P, M).
        scores: logits (P, 1).
        pointers: (P, M, C).
    """

    masks: np.ndarray
    ious: np.ndarray
    scores: np.ndarray
    pointers: np.ndarray


@dataclass(frozen=True)
class MemoryNumbers:
    """The numbers with which a session keeps and recalls memories; nothing of them is quantized.

    Args:
        frames: that are recalled beside those with prompts, plus 1 (`num_maskmem`).
        conditioning: frames with prompts that are recalled at most; -1 for all.
        pointers: that are recalled at most.
        mask_scale, mask_bias: of a mask's probabilities before the memory encoder.
        mask_side: pixels along a side of the masks that it reads; four for each that the decoder
            makes. In SAM 2 they are those of the input.
        points: least and most points of a prompt that several masks answer.
        frame_times: (frames, D), added to the positions of a frame's tokens: row f - 1 to those of
            the frame f steps away, the last row to frames with prompts.
        pointer_times: weight (D, C) and bias (D,) for the sines of a pointer's distance; None in
            SAM 2.0, whose pointers have no positions.
        no_pointer: (C,), in place of the pointer to an object that is not there.
        mask_kernel: weight (k, k) and bias of the convolution of stride k that makes the decoder's
            mask prompt from a mask (S, S) of 0 and 1.
    """

    frames: int
    conditioning: int
    pointers: int
    mask_scale: float
    mask_bias: float
    mask_side: int
    points: tuple[int, int]
    frame_times: np.ndarray
    pointer_times: tuple[np.ndarray, np.ndarray] | None
    no_pointer: np.ndarray
    mask_kernel: tuple[np.ndarray, float]

    @classmethod
    def read(
        cls, config: Mapping[str, Any], tensor: Callable[[str], np.ndarray]
    ) -> "MemoryNumbers":
        """Read the numbers from a model's configuration, as a dictionary, and its parameters.

        Both are transformers' for `sam2_video` or `sam3_tracker_video`; `tensor` returns the
        float32 parameter of a name.
        """
        prompts = config["prompt_encoder_config"]
        times = "temporal_positional_encoding_projection_layer"
        timed = config["enable_temporal_pos_encoding_for_object_pointers"]
        return cls(
            frames=config["num_maskmem"],
            conditioning=config["max_cond_frame_num"],
            pointers=config["max_object_pointers_in_encoder"],
            mask_scale=config["sigmoid_scale_for_mem_enc"],
            mask_bias=config["sigmoid_bias_for_mem_enc"],
            mask_side=prompts["image_size"] // prompts["patch_size"] * PIXELS_OF_CELL,
            points=(config["multimask_min_pt_num"], config["multimask_max_pt_num"]),
            frame_times=tensor("memory_temporal_positional_encoding")[:, 0, 0],
            pointer_times=(tensor(f"{times}.weight"), tensor(f"{times}.bias")) if timed else None,
            no_pointer=tensor("no_object_pointer")[0],
            mask_kernel=(
                tensor("mask_downsample.weight")[0, 0],
                float(tensor("mask_downsample.bias")[0]),
            ),
        )


@runtime_checkable
class VideoEngine(Engine, Protocol):
    """Runs one model that tracks; `carsam.families.video` says what the three steps mean."""

    @property
    def memory(self) -> MemoryNumbers:
        """The numbers of a session with the model."""
        ...

    def recall(self, embedding: Embedding, memory: Recollection | None) -> Embedding:
        """Return the embedding of a frame as the memory of one object makes it."""
        ...

    def track(self, embedding: Embedding, prompts: Prompts, multimask_output: bool) -> Tracked:
        """Return masks and pointers of P objects."""
        ...

    def remember(
        self, embedding: Embedding, masks: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens (P, n, D) and their positions (n, D) for masks (P, S, S)."""
        ...

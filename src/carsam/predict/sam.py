"""segment-anything's `Sam` and `sam_model_registry` over any engine.

Code that is written for `segment_anything` (its own predictor and mask generator too) takes this in
place of a `Sam`. Torch is needed by what takes or returns tensors only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from carsam.engines.base import Embedding, Engine
from carsam.engines.load import load
from carsam.errors import UserError
from carsam.images.preprocess import Colour, Frame
from carsam.images.prompts import Prompts
from carsam.predict.given_prompts import without_corners
from carsam.predict.tensors import to_array, to_tensor, torch_module
from carsam.predict.upscale import upscale_masks

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]


class Sam:
    """A model with the names of `segment_anything.modeling.Sam`; numpy inside, tensors outside.

    The engine computes where it is; `to(device)` says where the tensors lie that come out. Models
    whose decoder reads more than the embedding, as SAM 2's and SAM-HQ's do, have no place for the
    rest here: `image_encoder` refuses them, `carsam.SamPredictor` runs them.

    Args:
        model: an engine, or what `carsam.load` takes.
    """

    mask_threshold = 0.0
    image_format = "RGB"

    def __init__(self, model: Engine | str | Path) -> None:
        self._engine = model if isinstance(model, Engine) else load(model)
        self._device: Any = getattr(self._engine, "device", "cpu")
        self.image_encoder = ImageEncoder(self)
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder(self)

    def engine(self) -> Engine:
        """Return the engine that computes."""
        return self._engine

    @property
    def device(self) -> Any:
        """The `torch.device` of the tensors that come out."""
        return torch_module().device(self._device)

    @property
    def pixel_mean(self) -> "Tensor":
        """What `preprocess` takes off, (3, 1, 1)."""
        return self._colour(self._engine.framing.mean)

    @property
    def pixel_std(self) -> "Tensor":
        """What `preprocess` divides by, (3, 1, 1)."""
        return self._colour(self._engine.framing.deviation)

    def _colour(self, colour: Colour) -> "Tensor":
        return to_tensor(np.array(colour, np.float32)[:, None, None], self._device)

    def to(self, device: Any = None) -> "Sam":
        """Have tensors come out on another device."""
        if device is not None:
            self._device = torch_module().device(device)
        return self

    def eval(self) -> "Sam":
        """Do nothing: there is no other mode."""
        return self

    def parameters(self) -> Iterator[Any]:
        """Give no parameters: there is nothing to train."""
        return iter(())

    def __call__(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, "Tensor"]]:
        """Predict the masks of several images, each with its prompts.

        Args:
            batched_input: of each image `image` (3, h, w), resized already, `original_size`, and
                what there is of `point_coords` (B, N, 2) with `point_labels` (B, N), `boxes` (B, 4)
                and `mask_inputs` (B, 1, 4h, 4w), in pixels of the resized image.
            multimask_output: three candidate masks instead of one.

        Returns:
            of each image `masks` (B, C, H, W) bool, `iou_predictions` (B, C) and
            `low_res_logits` (B, C, 4h, 4w).
        """
        results = []
        for record in batched_input:
            features = self.image_encoder(self.preprocess(record["image"])[None])
            points = record.get("point_coords")
            sparse, dense = self.prompt_encoder(
                points=None if points is None else (points, record["point_labels"]),
                boxes=record.get("boxes"),
                masks=record.get("mask_inputs"),
            )
            low_res, ious = self.mask_decoder(features, None, sparse, dense, multimask_output)
            size, original = record["image"].shape[-2:], record["original_size"]
            masks = self.postprocess_masks(low_res, size, original) > self.mask_threshold
            results.append({"masks": masks, "iou_predictions": ious, "low_res_logits": low_res})
        return results

    def preprocess(self, x: "Tensor") -> "Tensor":
        """Normalise resized pixels (..., 3, h, w) in 0..255 and pad them to (..., 3, S, S)."""
        side = self._engine.framing.side
        height, width = x.shape[-2:]
        normalised = (x.to(self._device) - self.pixel_mean) / self.pixel_std
        padded: Tensor = torch_module().nn.functional.pad(
            normalised, (0, side - width, 0, side - height)
        )
        return padded

    def postprocess_masks(self, masks: "Tensor", input_size: Size, original_size: Size) -> "Tensor":
        """Bring logits (B, C, 4h, 4w) to the original size, cut off what is padding.

        Raises:
            UserError: `input_size` is not what an image of the original size gets in this model.
        """
        height, width = original_size
        frame = Frame((int(height), int(width)), self._engine.framing)
        if tuple(map(int, input_size)) != frame.input_size:
            raise UserError(
                f"Found input_size {tuple(input_size)} of an image of {height} x {width} pixels; "
                f"this model resizes it to {frame.input_size}. Pass the size of the resized image."
            )
        low_res = to_array(masks, "masks", np.float32)
        assert low_res is not None
        return to_tensor(upscale_masks(low_res, frame), self._device)


class ImageEncoder:
    """The image encoder of a `Sam`."""

    def __init__(self, sam: Sam) -> None:
        self._sam, self.img_size = sam, sam.engine().framing.side

    def __call__(self, x: "Tensor") -> "Tensor":
        """Return the embeddings (B, C, h, w) of normalised, padded pixels (B, 3, S, S)."""
        pixels = to_array(x, "pixels", np.float32)
        assert pixels is not None
        embeddings = [only_part(self._sam.engine().encode(image)) for image in pixels]
        return to_tensor(np.stack(embeddings), self._sam.device)


@dataclass(frozen=True)
class Encoded:
    """What `PromptEncoder` hands to `MaskDecoder`: the prompts, as engines take them as they are.

    Args:
        prompts: in pixels of the frame.
    """

    prompts: Prompts


class PromptEncoder:
    """The prompt encoder of a `Sam`; it checks shapes and leaves the encoding to the engine."""

    def __call__(
        self,
        points: tuple[Any, Any] | None = None,
        boxes: Any = None,
        masks: Any = None,
    ) -> tuple[Encoded, None]:
        """Return what `MaskDecoder` wants for B prompts, in place of two tensors.

        Args:
            points: coordinates (B, N, 2) in pixels of the frame, and labels (B, N).
            boxes: (B, 4) or (B, 1, 4) in pixels of the frame.
            masks: (B, 1, 4h, 4w) logits.
        """
        coordinates, labels = points or (None, None)
        return Encoded(frame_prompts(coordinates, labels, boxes, masks)), None

    def get_dense_pe(self) -> None:
        """Return nothing: the engine knows where its cells are."""


class MaskDecoder:
    """The mask decoder of a `Sam`."""

    def __init__(self, sam: Sam) -> None:
        self._sam = sam

    def __call__(
        self,
        image_embeddings: "Tensor",
        image_pe: Any,
        sparse_prompt_embeddings: Any,
        dense_prompt_embeddings: Any,
        multimask_output: bool,
    ) -> tuple["Tensor", "Tensor"]:
        """Return mask logits (B, C, 4h, 4w) and predicted IoUs (B, C).

        Args:
            image_embeddings: (1, C, h, w).
            image_pe, dense_prompt_embeddings: not used.
            sparse_prompt_embeddings: what this model's `prompt_encoder` returned.
        """
        if not isinstance(sparse_prompt_embeddings, Encoded):
            raise UserError(
                f"Found prompt embeddings of type {type(sparse_prompt_embeddings).__name__}; "
                "expected what this model's own prompt_encoder returns."
            )
        embedding = (given_embedding(image_embeddings),)
        low_res, ious = self._sam.engine().decode(
            embedding, sparse_prompt_embeddings.prompts, multimask_output
        )
        return to_tensor(low_res, self._sam.device), to_tensor(ious, self._sam.device)


def frame_prompts(points: Any, labels: Any, boxes: Any, masks: Any) -> Prompts:
    """Return B prompts from tensors in pixels of the frame.

    Args: as of `PromptEncoder.__call__`.

    Raises:
        UserError: shapes or numbers of prompts do not fit.
    """
    coordinates = to_array(points, "points", np.float32)
    numbers = to_array(labels, "labels", np.int64)
    corners = to_array(boxes, "boxes", np.float32)
    logits = to_array(masks, "mask input", np.float32)
    if corners is not None:
        corners = corners.reshape(-1, 4) if corners.size else corners.reshape(0, 4)
    if coordinates is not None and (coordinates.ndim != 3 or coordinates.shape[2] != 2):
        raise UserError(f"Found points of shape {coordinates.shape}; expected (B, N, 2).")
    if logits is not None and (logits.ndim != 4 or logits.shape[1] != 1):
        raise UserError(f"Found mask input of shape {logits.shape}; expected (B, 1, 4h, 4w).")
    if coordinates is not None and numbers is not None:
        if numbers.shape != coordinates.shape[:-1]:
            raise UserError(
                f"Found labels of shape {numbers.shape} for points of shape {coordinates.shape}; "
                "expected one label for every point."
            )
        coordinates, numbers, corners = without_corners(coordinates, numbers, corners)
    prompts = Prompts(coordinates, numbers, corners, None if logits is None else logits[:, 0])
    parts = (prompts.points, prompts.boxes, prompts.masks)
    if any(part is not None and len(part) != len(prompts) for part in parts):
        raise UserError("Found prompts of different number; give equally many of each.")
    return prompts


def given_embedding(given: Any) -> np.ndarray:
    """Return an image embedding (C, h, w) or (1, C, h, w), array or tensor, as (C, h, w)."""
    array = to_array(given, "features", np.float32)
    assert array is not None
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3:
        raise UserError(
            f"Found an image embedding of shape {array.shape}; expected (1, C, h, w), as of one "
            "image."
        )
    return array


def only_part(embedding: Embedding) -> np.ndarray:
    """Return the embedding (C, h, w) of a model whose decoder reads nothing else of the image.

    Raises:
        UserError: it reads more.
    """
    if len(embedding) > 1:
        raise UserError(
            f"The decoder of this model reads {len(embedding)} arrays of an image, which "
            "segment-anything's Sam has no place for. Use carsam.SamPredictor or "
            "carsam.SamAutomaticMaskGenerator with the model itself."
        )
    return embedding[0]


def _build(name: str, checkpoint: str | Path | None = None, engine: str = "auto") -> Sam:
    """Load a `Sam`: a run, or a float model, of whatever size; it says itself what it is.

    Args:
        name: the key in the registry.
        checkpoint: what `carsam.load` takes.
        engine: as of `carsam.load`.
    """
    if checkpoint is None:
        raise UserError(
            f"Found no checkpoint for {name}; give the folder of a quantized model, "
            "sam-mini-w4a4 (bundled), or a float model: a model without weights sees nothing."
        )
    return Sam(load(checkpoint, engine))


sam_model_registry = {
    name: partial(_build, name) for name in ("default", "vit_h", "vit_l", "vit_b")
}
"""segment-anything's names; all load any model, as a checkpoint says itself what it holds."""

"""SAM 2 for videos as `transformers.Sam2VideoModel`."""

from typing import Any

from torch import Tensor

from carsam.families.sam2.family import Sam2Family, decode_tokens, without_memory
from carsam.families.sam2_video.memory_attention import attend_to_memory
from carsam.families.video import Recollection, Tracked


class Sam2VideoFamily(Sam2Family):
    """SAM 2's image model and its memory, which stays float.

    Its attention turns a frame's embedding by what is remembered of an object; its encoder makes
    a memory of the frame's embedding, as it was before, and of the object's mask.
    """

    name = "sam2_video"
    architecture = "Sam2VideoModel"

    def recall(
        self, model: Any, embedding: tuple[Tensor, ...], memory: Recollection | None
    ) -> tuple[Tensor, ...]:
        """Return the embedding of a frame as `track` reads it."""
        image, *fine = embedding
        if memory is None:
            return without_memory(model, image), *fine
        positions = model.vision_encoder.neck.position_encoding(
            image.shape, image.device, image.dtype
        )
        return attend_to_memory(model.memory_attention, image, positions, memory), *fine

    def track(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> Tracked:
        """Decode prompts of P objects."""
        masks, ious, tokens, scores = decode_tokens(model, embedding, multimask_output, **prompts)
        return Tracked(masks, ious, scores, model.object_pointer_proj(tokens))

    def remember(
        self, model: Any, embedding: tuple[Tensor, ...], masks: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a frame's tokens (P, n, D) of P objects, and their positions (n, D)."""
        memory, positions = model.memory_encoder(embedding[0], masks)  # (P, D, h, w)
        absent = model.occlusion_spatial_embedding_parameter
        if absent is not None:
            memory = memory + (scores <= 0)[..., None, None] * absent[..., None, None]
        return memory.flatten(2).transpose(1, 2), positions[0].flatten(1).T

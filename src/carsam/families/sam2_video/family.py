"""SAM 2 for videos as `transformers.Sam2VideoModel`."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from carsam.families.base import Sample, Site, Stage
from carsam.families.sam.decoding import mask_prompt_stage
from carsam.families.sam.sites import decoder_sites, prompt_sites
from carsam.families.sam2 import sites as sam2_sites
from carsam.families.sam2.family import Sam2Family, decoder_stages, without_memory
from carsam.families.sam2_video.decoding import decode, pointer_stage, run_mask_head, run_tokens
from carsam.families.sam2_video.memory_attention import attend_to_memory
from carsam.families.sam2_video.memory_encoder import fuse_whole, memory_tokens
from carsam.families.sam2_video.sites import (
    MASK_INPUT,
    attention_sites,
    encoder_sites,
    pointer_sites,
)
from carsam.families.sam2_video.stages import memory_stages
from carsam.families.video import Recollection, Tracked


class Sam2VideoFamily(Sam2Family):
    """SAM 2's image model and its memory.

    Its attention turns a frame's embedding by what is remembered of an object; its encoder makes
    a memory of the frame's embedding, as it was before, and of the object's mask. Masks and scores
    are not the end here, as memories are made of them.
    """

    name = "sam2_video"
    architecture = "Sam2VideoModel"
    exact_kinds = (
        *Sam2Family.exact_kinds,
        "decoder.mask_upscaling",
        "decoder.hypernetwork",
        "decoder.iou_head",
        "decoder.object_score_head",
        "memory.pointer",
        MASK_INPUT,
    )

    def set_side_(self, config: Any, side: int) -> None:
        """Make a configuration that of the same model for another size."""
        super().set_side_(config, side)
        config.image_size = side
        config.memory_attention_rope_feat_sizes = config.vision_config.backbone_feature_sizes[-1]

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return every site in the order in which calibration runs them.

        A model that was loaded for images alone, without the memory, has none of the memory's.
        """
        if not hasattr(model, "memory_attention"):
            return super().sites(model)
        return (
            *self.encoder_sites(model),
            *encoder_sites(model),
            *attention_sites(model),
            *decoder_sites(model, sam2_sites.NAMES),
            *sam2_sites.score_sites(model),
            *pointer_sites(model),
            *prompt_sites(),
        )

    def attention_configs(self, model: Any) -> tuple[Any, ...]:
        """Return the configs of the image encoder and of the memory attention."""
        return (*super().attention_configs(model), model.config)

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return the model cut into its smallest stages; the encoder calibrates on stills."""
        return (
            *(replace(stage, samples=(Sample.STILL,)) for stage in self.encoder_stages(model)),
            *memory_stages(model),
            *decoder_stages(model, run_tokens, run_mask_head),
            pointer_stage(),
            mask_prompt_stage(),
        )

    def decode(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, P, M, 4h, 4w) and predicted IoUs (1, P, M) of an image."""
        placed = self.recall(model, embedding, None)
        found = decode(model, placed, multimask_output, **prompts)
        return found.masks, found.ious

    def recall(
        self, model: Any, embedding: tuple[Tensor, ...], memory: Recollection | None
    ) -> tuple[Tensor, ...]:
        """Return the embedding of a frame as `track` reads it."""
        image, *fine = embedding
        if memory is None:
            return without_memory(model, image), *fine
        return attend_to_memory(model, image, memory), *fine

    def track(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> Tracked:
        """Decode prompts of P objects."""
        return decode(model, embedding, multimask_output, **prompts)

    def remember(
        self, model: Any, embedding: tuple[Tensor, ...], masks: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a frame's tokens (P, n, D) of P objects, and their positions (n, D)."""
        encoder, image = model.memory_encoder, embedding[0]
        tokens = memory_tokens(model, fuse_whole(encoder, image, masks), scores)
        shape = (1, tokens.shape[-1], *image.shape[2:])
        positions = encoder.position_encoding(shape, image.device, image.dtype)
        return tokens, positions[0].flatten(1).T

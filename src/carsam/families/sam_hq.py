"""SAM-HQ as `transformers.SamHQModel`: SAM with one more token and a finer mask head."""

from typing import Any

import torch
from torch import Tensor

from carsam.families.base import Site, Stage
from carsam.families.sam.family import SamFamily
from carsam.families.sam.sites import Names

SAM_ONLY_KINDS = {
    "decoder.mask_upscaling",
    "decoder.hypernetwork",
    "decoder.iou_head",
    "prompt_encoder",
}


class SamHqFamily(SamFamily):
    """SAM-HQ; its mask head and prompt encoder stay float."""

    name = "sam_hq"
    architecture = "SamHQModel"
    names = Names(tokens=("iou_token", "mask_tokens", "hq_token"))

    def sites(self, model: Any) -> tuple[Site, ...]:
        """Return every site in the order of execution."""
        return tuple(site for site in super().sites(model) if site.kind not in SAM_ONLY_KINDS)

    def stages(self, model: Any) -> tuple[Stage, ...]:
        """Return SAM's stages up to the two-way transformer's last attention."""
        return super().stages(model)[:-2]

    def output_tokens(self, model: Any) -> Tensor:
        """Return the decoder's own tokens (6, C): IoU, one per mask, high quality."""
        return torch.cat([super().output_tokens(model), model.mask_decoder.hq_token.weight])

    def encode(self, model: Any, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding (1, C, h, w), then the first global block's (1, h, w, width)."""
        embedding, intermediate = model.get_image_embeddings(pixels)
        return embedding, intermediate[0]

    def decode(
        self, model: Any, embedding: tuple[Tensor, ...], multimask_output: bool, **prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits (1, P, M, 4h, 4w) and predicted IoUs (1, P, M)."""
        output = model(
            image_embeddings=embedding[0],
            intermediate_embeddings=[embedding[1]],
            multimask_output=multimask_output,
            **prompts,
        )
        return output.pred_masks, output.iou_scores

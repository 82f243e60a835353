"""The float parts between quantized layers, with the native engine's bits where that is possible.

Their results are rounded to codes, so they must not differ in the last bit. With gradients they
compute as torch does, GELU by the native engine's kernel.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import GELUActivation
from transformers.models.sam.modeling_sam import SamPositionalEmbedding
from transformers.models.sam2.modeling_sam2 import (
    Sam2PositionalEmbedding,
    Sam2SinePositionEmbedding,
)
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoPositionalEmbedding,
    Sam2VideoPositionEmbeddingSine,
)
from transformers.models.sam3.modeling_sam3 import Sam3SinePositionEmbedding
from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerPositionalEmbedding
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import (
    Sam3TrackerVideoPositionalEmbedding,
    Sam3TrackerVideoPositionEmbeddingSine,
)
from transformers.models.sam_hq.modeling_sam_hq import SamHQPositionalEmbedding

from carsam.grids.kernels import pointer, takes, training
from carsam.simulation import arithmetic, on_kernels


def reproduce_(model: nn.Module) -> None:
    """Replace a model's norms, GELUs and positional encodings; parameters keep their names."""
    replacements: dict[int, nn.Module] = {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        for kind, replacement in REPLACEMENTS.items():
            if isinstance(module, kind):  # a module that two parts share stays shared
                new = replacements.setdefault(id(module), replacement(module))
                model.set_submodule(path, new)


class LayerNorm(nn.Module):
    """Layer normalisation over the channels, last or first after the batch."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps = norm.eps
        self.channels_first = getattr(norm, "data_format", "channels_last") == "channels_first"

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (..., C), or (batch, C, h, w)."""
        if self.channels_first:
            return self._normalised(values.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self._normalised(values)

    def _normalised(self, values: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return nn.functional.layer_norm(
                values, self.weight.shape, self.weight, self.bias, self.eps
            )
        exact = on_kernels if on_kernels.usable(values) else arithmetic
        return exact.layer_norm(values, self.weight, self.bias, self.eps)


class Gelu(nn.Module):
    """x Phi(x)."""

    def forward(self, values: Tensor) -> Tensor:
        """Apply to values of any shape."""
        if not torch.is_grad_enabled():
            return (on_kernels if on_kernels.usable(values) else arithmetic).gelu(values)
        if not takes(values):
            return nn.functional.gelu(values)
        if values.ndim == 4 and not values.is_contiguous():  # of an image, channels last in memory
            return cast(Tensor, _Gelu.apply(values.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return cast(Tensor, _Gelu.apply(values))


class _Gelu(torch.autograd.Function):
    """The native engine's GELU with its slope, in a third of the time that torch's takes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.contiguous()
        ctx.save_for_backward(values)
        result = torch.empty_like(values)
        training.gelu(pointer(values), None, pointer(result))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        result = torch.empty_like(values)
        training.gelu(pointer(values), pointer(gradient.contiguous()), pointer(result))
        return result


class ExactPositionalEncoding(nn.Module):
    """Random Fourier features of coordinates, computed in float64 and rounded at the end."""

    def __init__(self, encoding: nn.Module) -> None:
        super().__init__()
        frequencies = cast(Tensor, encoding.positional_embedding)
        if not isinstance(frequencies, nn.Parameter):  # a buffer of SAM 2
            frequencies = nn.Parameter(frequencies, requires_grad=False)
        self.positional_embedding = frequencies

    def forward(self, coordinates: Tensor, input_shape: tuple[int, int] | None = None) -> Tensor:
        """Encode (..., 2) coordinates x, y in [0, 1], or in pixels of a (height, width) image."""
        if input_shape is not None:
            height, width = input_shape
            coordinates = coordinates / coordinates.new_tensor([width, height])
        angles = (2 * coordinates.double() - 1) @ self.positional_embedding.double()
        angles = angles * (2 * torch.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.positional_embedding.dtype)


class ExactSinePositions(nn.Module):
    """Sines and cosines of rows and columns, computed in float64 and rounded at the end.

    Half of the channels tell the row, the other half the column; of a half, channels 2i and 2i + 1
    are sine and cosine of the place times temperature^(-2i / channels of the half). Normalised
    places run from 0 (outside) to `scale` at the last row or column.
    """

    def __init__(self, encoding: nn.Module) -> None:
        super().__init__()
        original: Any = encoding
        self.channels, self.temperature = original.num_position_features, original.temperature
        self.scale = original.scale if original.normalize else None

    def forward(
        self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: None = None
    ) -> Tensor:
        """Return the positions (batch, 2 * channels, h, w) of images (batch, ..., h, w)."""
        batch, _, height, width = shape
        by_row = self._encoded(height)[:, None].expand(-1, width, -1)
        by_column = self._encoded(width)[None].expand(height, -1, -1)
        encoded = torch.cat([by_row, by_column], dim=-1).to(device, dtype)
        return encoded.permute(2, 0, 1).expand(batch, -1, -1, -1)

    def _encoded(self, length: int) -> Tensor:
        """Return the encoding (length, channels) of places along one side."""
        places = torch.arange(1, length + 1, dtype=torch.float64)
        if self.scale is not None:
            places = places / length * self.scale
        pairs = torch.arange(self.channels // 2, dtype=torch.float64)
        angles = places[:, None] * self.temperature ** (-2 * pairs / self.channels)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


REPLACEMENTS: dict[Any, Callable[[Any], nn.Module]] = {
    nn.LayerNorm: LayerNorm,
    (nn.GELU, GELUActivation): lambda _: Gelu(),
    (
        SamPositionalEmbedding,
        SamHQPositionalEmbedding,
        Sam2PositionalEmbedding,
        Sam2VideoPositionalEmbedding,
        Sam3TrackerPositionalEmbedding,
        Sam3TrackerVideoPositionalEmbedding,
    ): ExactPositionalEncoding,
    (
        Sam2SinePositionEmbedding,
        Sam2VideoPositionEmbeddingSine,
        Sam3SinePositionEmbedding,
        Sam3TrackerVideoPositionEmbeddingSine,
    ): ExactSinePositions,
}
"""What takes the place of which modules."""

"""SAM on a part of its canvas: training on small windows with the weights of the full-size model.

A window of 128 or 256 pixels stands at a random place of the model's canvas of 768 x 768 and uses
that part of the position tables, so that nothing must be interpolated when the windows grow. All
four masks of the decoder are returned (transformers returns one or three), and the arithmetic is
bfloat16 where that is fast; the float32 weights are kept beside it.
"""

import torch
from pictures import PIXEL_MEAN, PIXEL_STD
from torch import Tensor, nn
from torch.func import functional_call
from transformers import SamModel


class CanvasSam(nn.Module):
    """The encoder and decoder of a `SamModel` in the number format `dtype`."""

    def __init__(self, model: SamModel, dtype: torch.dtype = torch.bfloat16):
        super().__init__()
        self.model = model
        self.dtype = dtype

    def encode(self, image: Tensor, offset: tuple[int, int]) -> Tensor:
        """Embed windows.

        Args:
            image: uint8, batch x 3 x height x width in pixels.
            offset: row and column of the windows on the canvas, in tokens.

        Returns:
            Image embedding, batch x channels x rows x columns (tokens).
        """
        encoder = self.model.vision_encoder
        patch = encoder.patch_embed.projection.kernel_size[0]
        rows, columns = image.shape[2] // patch, image.shape[3] // patch
        row, column = offset
        return self._encode(
            image, encoder.pos_embed[:, row : row + rows, column : column + columns]
        )

    def compile_(self) -> None:
        """Let torch fuse the element-wise operations, which take longer than the products."""
        self._encode = torch.compile(self._encode, dynamic=False)
        self._decode = torch.compile(self._decode, dynamic=False)

    def _encode(self, image: Tensor, positions: Tensor) -> Tensor:
        """`encode` with the windows' part of the position table, 1 x rows x columns x C."""
        encoder = self.model.vision_encoder
        patch = encoder.patch_embed.projection.kernel_size[0]
        mean, std = (
            torch.tensor(value, device=image.device).view(3, 1, 1)
            for value in (PIXEL_MEAN, PIXEL_STD)
        )
        pixels = ((image.float() - mean) / std).to(self.dtype)
        rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
        patches = (
            pixels.unflatten(2, (rows, patch))
            .unflatten(4, (columns, patch))
            .permute(0, 2, 4, 1, 3, 5)
        )
        projection = encoder.patch_embed.projection
        tokens = nn.functional.linear(
            patches.flatten(3),
            self._cast(projection.weight).flatten(1),
            self._cast(projection.bias),
        )  # B x rows x columns x C
        tokens = tokens + self._cast(positions)
        for layer in encoder.layers:
            tokens = functional_call(layer, self._layer_parameters(layer, rows, columns), (tokens,))
        return self._neck(tokens)

    def decode(
        self,
        image_embedding: Tensor,
        offset: tuple[int, int],
        sparse_embedding: Tensor,
        dense_embedding: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict all masks of all prompts.

        Args:
            image_embedding: batch x channels x rows x columns.
            offset: row and column of the windows on the canvas, in tokens.
            sparse_embedding: batch x prompts x tokens x channels.
            dense_embedding: batch x channels x rows x columns, or anything that broadcasts to it.

        Returns:
            Mask logits, batch x prompts x 4 x 4 rows x 4 columns, and predicted IoU,
            batch x prompts x 4; both float32.
        """
        rows, columns = image_embedding.shape[2:]
        row, column = offset
        positions = self.model.get_image_wide_positional_embeddings()
        positions = self._cast(positions[:, :, row : row + rows, column : column + columns])
        return self._decode(
            image_embedding, positions.contiguous(), sparse_embedding, dense_embedding
        )

    def _decode(
        self,
        image_embedding: Tensor,
        positions: Tensor,
        sparse_embedding: Tensor,
        dense_embedding: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`decode` with the position code of the windows' tokens, 1 x channels x rows x columns."""
        decoder = self.model.mask_decoder
        batch, prompts = sparse_embedding.shape[:2]
        rows, columns = image_embedding.shape[2:]
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(batch, prompts, -1, -1), sparse_embedding], 2).to(
            self.dtype
        )
        keys = image_embedding + dense_embedding.to(self.dtype)
        tokens, keys = self._run(
            decoder.transformer,
            point_embeddings=tokens,
            image_embeddings=keys.repeat_interleave(prompts, 0),
            image_positional_embeddings=positions.expand(batch * prompts, -1, -1, -1),
            attention_similarity=None,
        )  # B x P x T x C and BP x 1 x (rows columns) x C
        mask_tokens = tokens[:, :, 1 : 1 + decoder.num_mask_tokens]
        networks = decoder.output_hypernetworks_mlps
        hyper = torch.stack(
            [self._run(network, mask_tokens[:, :, i]) for i, network in enumerate(networks)], 2
        )
        upscaled = self._upscale(
            keys.reshape(batch * prompts, rows * columns, -1)
        )  # BP x (rows columns 2 2 2 2) x C/8
        masks = (upscaled @ hyper.flatten(0, 1).transpose(1, 2)).float()  # BP x pixels x 4
        masks = masks.view(batch, prompts, rows, columns, 2, 2, 2, 2, -1).permute(
            0, 1, 8, 2, 4, 6, 3, 5, 7
        )
        masks = masks.reshape(batch, prompts, -1, 4 * rows, 4 * columns)
        return masks, self._run(decoder.iou_prediction_head, tokens[:, :, 0]).float()

    def _neck(self, tokens: Tensor) -> Tensor:
        """The neck with its convolutions as products.

        From B x rows x columns x C to B x C' x rows x columns.
        """
        neck = self.model.vision_encoder.neck
        rows, columns = tokens.shape[1:3]
        tokens = nn.functional.linear(tokens, self._cast(neck.conv1.weight).flatten(1))
        tokens = nn.functional.pad(self._normalise(neck.layer_norm1, tokens), (0, 0, 1, 1, 1, 1))
        neighbours = [tokens[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
        weight = self._cast(neck.conv2.weight).permute(0, 2, 3, 1).flatten(1)  # C' x (3 3 C')
        tokens = nn.functional.linear(torch.cat(neighbours, -1), weight)
        return self._normalise(neck.layer_norm2, tokens).permute(0, 3, 1, 2)

    def _upscale(self, tokens: Tensor) -> Tensor:
        """The two transposed convolutions (stride = kernel = 2) as products.

        From BP x N x C to BP x 16 N x C/8; the 16 are ordered row, column, row, column.
        """
        decoder = self.model.mask_decoder
        tokens = self._normalise(
            decoder.upscale_layer_norm, self._spread(decoder.upscale_conv1, tokens)
        )
        return decoder.activation(self._spread(decoder.upscale_conv2, decoder.activation(tokens)))

    def _spread(self, convolution: nn.ConvTranspose2d, tokens: Tensor) -> Tensor:
        """Each token becomes 2 x 2 tokens: N x tokens x C to N x 4 tokens x C'."""
        weight = self._cast(convolution.weight).permute(2, 3, 1, 0).flatten(0, 2)  # (2 2 C') x C
        spread = nn.functional.linear(tokens, weight).unflatten(2, (4, -1)) + self._cast(
            convolution.bias
        )
        return spread.flatten(1, 2)

    def _normalise(self, norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
        """Layer norm over the last dimension, wherever the module expects its channels."""
        weight, bias = self._cast(norm.weight), self._cast(norm.bias)
        return nn.functional.layer_norm(tokens, norm.normalized_shape, weight, bias, norm.eps)

    def _layer_parameters(self, layer: nn.Module, rows: int, columns: int) -> dict[str, Tensor]:
        """A layer's parameters; a global layer's tables are cut to the window's distances."""
        parameters = {name: self._cast(parameter) for name, parameter in layer.named_parameters()}
        if layer.window_size == 0:
            for name, extent in (("attn.rel_pos_h", rows), ("attn.rel_pos_w", columns)):
                middle = len(parameters[name]) // 2
                parameters[name] = parameters[name][middle - extent + 1 : middle + extent]
        return parameters

    def _run(self, module: nn.Module, *arguments, **keywords):
        """Call a module with its parameters in `dtype`."""
        parameters = {name: self._cast(parameter) for name, parameter in module.named_parameters()}
        return functional_call(module, parameters, arguments, keywords)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype)

"""An auxiliary task for the encoder: pixels of one object have like codes in the image embedding.

Through prompts alone the encoder learns image content last, since a mask depends on it only after
everything else works. This task asks it directly: given an object's mean code, which pixels near
the object are its own? It is dropped after training.
"""

import torch
from torch import Tensor, nn

CELLS = 4  # a token stands for 4 x 4 pixels of the mask logits
CODE = 12  # numbers per pixel


class ContentHead(nn.Module):
    """Reads 4 x 4 codes off every token of the image embedding."""

    def __init__(self, channels: int):
        super().__init__()
        self.codes = nn.Linear(channels, CELLS * CELLS * CODE)
        self.threshold = nn.Parameter(torch.tensor(2.0))

    def forward(self, image_embedding: Tensor, masks: Tensor) -> Tensor:
        """Logits of belonging to each object: how near a pixel's code is to the object's mean.

        Args:
            image_embedding: batch x channels x rows x columns.
            masks: covered shares, batch x prompts x 4 rows x 4 columns.

        Returns:
            batch x prompts x 1 x 4 rows x 4 columns.
        """
        rows, columns = image_embedding.shape[2:]
        codes = self.codes(image_embedding.float().permute(0, 2, 3, 1))
        codes = codes.view(-1, rows, columns, CELLS, CELLS, CODE).permute(0, 1, 3, 2, 4, 5)
        codes = codes.reshape(len(codes), -1, CODE)  # B x pixels x codes
        shares = masks.flatten(2)
        means = shares @ codes / shares.sum(-1, keepdim=True).clamp(min=1e-3)  # B x P x codes
        distances = (
            codes.square().sum(-1)[:, None]
            - 2 * means @ codes.transpose(1, 2)
            + means.square().sum(-1, keepdim=True)
        )  # B x P x pixels
        return (self.threshold - distances).view(masks.shape)[:, :, None]

"""JCAR's unit: the two cross-attentions of a two-way block and the MLP between them.

Joint cross-attention reconstruction (CAR-SAM, Wen et al., CVPR 2026, arXiv 2605.16901). Tokens
attend to the image, pass the MLP, and the image attends to the tokens; an error of the first
attention reaches the image through the second. Reconstructed one by one, the parts cannot make up
for each other. As one unit they train together against both outputs, tokens and image
(`joint_loss.JointLoss`).
"""

from carsam.families.base import Role

NAME = "cross+cross"
"""How recipes name the unit."""

JOINT_CROSS_ATTENTION = (Role.TOKEN_TO_IMAGE, Role.DECODER_MLP, Role.IMAGE_TO_TOKEN)
"""What the stages that become one unit do, in their order."""

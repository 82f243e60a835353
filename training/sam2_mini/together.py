"""Part 5: clips and single images, for a decoder that serves both."""

from torch import Tensor

from sam2_mini.masks import MaskTraining
from sam2_mini.part import Pictures
from sam2_mini.tracking import Tracking


class Together:
    """One share of a step follows objects, the other one finds them in single images.

    Trained on clips alone the decoder forgets images: few objects are in a step, and of those only
    a quarter are prompted with boxes.

    Args:
        tracking, images: parts of one model, with recipes of as many steps.
    """

    name, shares = "together", 2

    def __init__(self, tracking: Tracking, images: MaskTraining):
        self.tracking, self.images = tracking, images
        self.recipe, self.trained = tracking.recipe, tracking.trained

    def start_(self) -> None:
        self.images.model.vision_encoder.requires_grad_(False)

    def read_(self, pictures: Pictures) -> None:
        self.tracking.read_(pictures)
        self.images.read_(pictures)

    def loss(self, step: int, share: int) -> tuple[Tensor, dict[str, float]]:
        return (self.tracking, self.images)[share].loss(step, share)

"""SAM 3's tracker as `transformers.Sam3TrackerModel` and `transformers.Sam3TrackerVideoModel`."""

from collections.abc import Iterator
from typing import Any

from carsam.families.base import Site, Stage
from carsam.families.sam2.family import Sam2Family
from carsam.families.sam2_video.family import Sam2VideoFamily
from carsam.families.sam3_tracker.sites import encoder_sites
from carsam.families.sam3_tracker.stages import encoder_stages
from carsam.formats.model_config import LONGEST_SIDE, MOST_TOKENS
from carsam.images.preprocess import GREY, Framing


class Sam3Encoder:
    """SAM 3's image encoder: a plain transformer with rotary positions, and SAM 2's levels of it.

    What comes before it in a family's bases is what SAM 3 has in place of SAM 2's.
    """

    def framing(self, config: Any) -> Framing:
        """Return how the input of a model of this configuration is filled."""
        side = config.prompt_encoder_config.image_size
        return Framing(side, stretched=True, mean=GREY, deviation=GREY)

    def sides(self, config: Any) -> range:
        """Return the sides of inputs that such a model can be resized for: a window or more."""
        backbone = config.vision_config.backbone_config
        patch, least = backbone.patch_size, max(backbone.window_size, 1)
        return range(least * patch, min(LONGEST_SIDE, MOST_TOKENS * patch) + 1, patch)

    def set_side_(self, config: Any, side: int) -> None:
        """Make a configuration that of the same model for another size."""
        vision = config.vision_config
        tokens = side // vision.backbone_config.patch_size
        vision.image_size = side
        vision.backbone_feature_sizes = [[tokens * scale] * 2 for scale in (4, 2, 1)]
        config.prompt_encoder_config.image_size = side

    def encoder_sites(self, model: Any) -> Iterator[Site]:
        """Yield the sites of the image encoder and of what makes its levels."""
        return encoder_sites(model)

    def encoder_stages(self, model: Any) -> Iterator[Stage]:
        """Yield its stages; the state's entries are `hidden`, and at the end `s0` and `s1` too."""
        return encoder_stages(model)


class Sam3TrackerFamily(Sam3Encoder, Sam2Family):
    """SAM 3's tracker for images.

    What stands for the missing memory is added where Meta's package and transformers' class for
    videos add it. transformers' class for images adds it to a level that it then drops.
    """

    name = "sam3_tracker"
    architecture = "Sam3TrackerModel"


class Sam3TrackerVideoFamily(Sam3Encoder, Sam2VideoFamily):
    """SAM 3's tracker with its memory, which is SAM 2's."""

    name = "sam3_tracker_video"
    architecture = "Sam3TrackerVideoModel"

    def set_side_(self, config: Any, side: int) -> None:
        """Make a configuration that of the same model for another size."""
        config.image_size = side  # which transformers hands on to all parts

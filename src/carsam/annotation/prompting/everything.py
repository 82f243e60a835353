"""Masks of everything, without prompts."""

from collections.abc import Mapping
from dataclasses import dataclass

from carsam.annotation.items import ErrorRecord, Item, MaskRecord
from carsam.annotation.prompting.base import Ask, Found
from carsam.engines.base import Engine
from carsam.evaluation.ids import Id
from carsam.images.decode import EncodedImage
from carsam.images.remarks import Tell
from carsam.predict.everything.generator import SamAutomaticMaskGenerator


@dataclass(frozen=True)
class Everything:
    """An image of which everything is asked."""

    image_id: Id


class EverythingPrompting:
    """Asks at a grid of points, with the thresholds of the model's own.

    Args:
        points: along a side of the image.
    """

    def __init__(self, points: int = 32) -> None:
        self._points = points
        self.identity = f"everything {points}"
        self.categories: Mapping[Id, str] = {}

    def request(self, item: Item) -> Everything:
        """Return that everything is asked, whatever the image."""
        return Everything(item.number if item.id is None else item.id)

    def asks(self, engine: Engine) -> Ask:
        """Return what asks an engine for everything."""
        generator = SamAutomaticMaskGenerator(
            engine, self._points, pred_iou_thresh=None, stability_score_thresh=None
        )

        def ask(image: EncodedImage, item: Item, request: Everything, warn: Tell) -> Found:
            said: list[str] = []
            masks, size = generator.find(image, warn=said.append)
            found: list[MaskRecord | ErrorRecord] = [
                MaskRecord(
                    request.image_id,
                    None,
                    each.mask,
                    each.predicted_iou,
                    stability_score=each.stability_score,
                )
                for each in masks
            ]
            if not found:  # the last sentence says why
                found.append(ErrorRecord(request.image_id, item.name, said.pop()))
            for sentence in said:
                warn(sentence)
            return size, found

        return ask

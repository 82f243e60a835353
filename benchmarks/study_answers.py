"""The masks of any engine for the prompts of a study, and how far they agree with the float ones.

Of three candidates for a click the float model's best is taken, by the IoU that it predicts, and
the candidate with the same number of the other model: what differs is the mask, not the choice."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from study_images import StudyImage
from study_prompts import Asked, ask

from carsam.engines.base import Embedding, Engine
from carsam.evaluation.boundary import boundary_iou
from carsam.evaluation.masks import decode, encode, iou
from carsam.images.preprocess import preprocess
from carsam.images.prompts import Prompts
from carsam.images.read import read_image
from carsam.predict.upscale import upscale_masks

Embed = Callable[[np.ndarray], Embedding]
"""From pixels (3, S, S) to what `decode` reads."""

CHUNK = 16
DECIMALS = 4
"""Of an agreement; more would only make the files larger."""


def float_answers(engine: Engine, embed: Embed, images: Sequence[StudyImage]) -> list[dict]:
    """Return each image's name, group, kinds of prompts, chosen candidates and masks, as json."""
    found = []
    for image, asked, masks, chosen in _answers(engine, embed, images, None):
        rles = [encode(mask) for mask in masks]
        found.append(
            {
                "name": image.name,
                "group": image.group,
                "kinds": list(asked.kinds),
                "chosen": chosen,
                "masks": [{**rle, "counts": rle["counts"].decode()} for rle in rles],
            }
        )
    return found


def agreement_with(
    answers: Sequence[dict[str, Any]],
    engine: Engine,
    embed: Embed,
    images: Sequence[StudyImage],
) -> dict[str, list[float]]:
    """Return mask IoU and boundary IoU with the float answers, prompt by prompt."""
    found: dict[str, list[float]] = {"mask_iou": [], "boundary_iou": []}
    choices = [answer["chosen"] for answer in answers]
    runs = _answers(engine, embed, images, choices)
    for answer, (_, _, masks, _) in zip(answers, runs, strict=True):
        for rle, mask in zip(answer["masks"], masks, strict=True):
            found["mask_iou"].append(round(iou(encode(mask), rle), DECIMALS))
            found["boundary_iou"].append(round(boundary_iou(mask, decode(rle)), DECIMALS))
    return found


def _answers(
    engine: Engine,
    embed: Embed,
    images: Sequence[StudyImage],
    choices: Sequence[list[int]] | None,
) -> Iterator[tuple[StudyImage, Asked, Iterator[np.ndarray], list[int]]]:
    """Yield each image, its prompts, its masks (H, W) and the numbers of the candidates."""
    for place, image in enumerate(images):
        photo = read_image(image.path)
        asked = ask(image.name, photo.shape[:2], image.objects())
        pixels, frame = preprocess(photo, engine.framing)
        embedding = embed(pixels)
        boxes, points = asked.prompts(frame)
        logits, predicted = [], []
        for prompts, several in ((boxes, False), (points, True)):
            for part in _parts(prompts):
                masks, ious = engine.decode(embedding, part, several)
                logits += list(masks)  # each (1 or 3, 4h, 4w)
                predicted += list(ious)
        chosen = [int(ious.argmax()) for ious in predicted]
        if choices is not None:
            chosen = choices[place]
        low_res = (all_[number] for all_, number in zip(logits, chosen, strict=True))
        yield image, asked, (upscale_masks(one, frame, False) for one in low_res), chosen


def _parts(prompts: Prompts | None) -> Iterator[Prompts]:
    if prompts is not None:
        for start in range(0, len(prompts), CHUNK):
            yield prompts[start : start + CHUNK]

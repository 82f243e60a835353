"""The masks of an evaluation, in files that other tools read."""

from collections.abc import Callable
from pathlib import Path

from carsam.annotation.items import NO_PIXEL, Annotations, ErrorRecord, ImageRecord, MaskRecord
from carsam.annotation.outputs import coco, label_studio
from carsam.annotation.outputs.base import About
from carsam.evaluation.result import EvaluationResult
from carsam.evaluation.stream import Prediction
from carsam.formats.files import write_whole
from carsam.images.run_lengths import RunLengths

FORMS: dict[str, Callable[[Annotations, About], bytes]] = {
    "instances": coco.rle_content,
    "polygons": coco.polygon_content,
    "label-studio": label_studio.content,
}
"""Forms that list the images too."""


def write_masks(result: EvaluationResult, form: str, path: Path) -> None:
    """Write the masks of an evaluation whole or not at all.

    Args:
        result: of `carsam.evaluate`.
        form: `predictions` for COCO results, in which every mask counts, or one of `FORMS`, in
            which masks without a pixel are errors.
        path: where they go.

    Raises:
        UserError: the file cannot be written.
    """
    if form == "predictions":
        content = coco.as_json(coco.results(map(mask_of, result.predictions)))
    else:
        assert result.data is not None
        about = About(result.data.category_names, {"model": result.model})
        content = FORMS[form](annotations(result), about)
    write_whole(path, content, "Give a file in a folder you may write to.")


def annotations(result: EvaluationResult) -> Annotations:
    """Return the images and masks of an evaluation."""
    assert result.data is not None
    names = {image.id: image.file_name for image in result.data.images}
    found = Annotations(
        [
            ImageRecord(image.id, image.file_name, image.width, image.height)
            for image in result.data.images
        ]
    )
    for mask in map(mask_of, result.predictions):
        if mask.mask.area:
            found.masks.append(mask)
        else:
            name = names[mask.image_id]
            found.errors.append(ErrorRecord(mask.image_id, name, NO_PIXEL, mask.prompt_id))
    return found


def mask_of(prediction: Prediction) -> MaskRecord:
    """Return a prediction as a record, with the score that ranks it."""
    rle = {**prediction.rle, "counts": prediction.rle["counts"].decode()}
    mask = RunLengths.of_compressed(rle)
    prompt = None if prediction.annotation is None else prediction.annotation.id
    return MaskRecord(prediction.image_id, prediction.category_id, mask, prediction.score, prompt)

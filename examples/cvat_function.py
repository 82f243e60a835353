"""A CVAT function for interactive segmentation: a run of carsam answers points and boxes.

pip install carsam cvat-cli
cvat-cli function create-native "CAR-SAM" --function-file cvat_function.py -p run=str:RUN
cvat-cli function run-agent ID --function-file cvat_function.py -p run=str:RUN
"""

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk.masks import encode_mask

import carsam


class Interactor:
    """Segments what is marked; CVAT's agent keeps the predictor of each image for ten minutes."""

    spec = cvataa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def __init__(self, run):
        self._engine = carsam.load(run)

    def preprocess_image(self, context, image):
        predictor = carsam.SamPredictor(self._engine)
        predictor.set_image(image)
        return predictor

    def detect(self, context, predictor, prompts):
        points = [*prompts.pos_points, *prompts.neg_points]
        labels = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        corners = prompts.bounding_box
        masks, ious, _ = predictor.predict(
            points or None,
            labels or None,
            None if corners is None else [*corners[0], *corners[1]],
            multimask_output=len(points) == 1 and corners is None,
        )
        best = masks[ious.argmax()]
        if not best.any():
            return []
        return [cvataa.InteractionResultShape(type="mask", points=encode_mask(best))]


def create(run):
    """Called by CVAT's command line with the parameters `-p`."""
    return Interactor(run)

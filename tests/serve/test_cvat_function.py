"""CVAT's own agent loads the example and gets masks from it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import RUN, photo_file

import carsam

EXAMPLE = Path(__file__).parents[2] / "examples" / "cvat_function.py"


@pytest.fixture
def agent(monkeypatch):
    """CVAT's agent in this process, with the example as its function."""
    pytest.importorskip("cvat_cli")
    import cvat_cli._internal.agent_driver_interaction as agent
    from cvat_cli._internal.common import FunctionLoader

    function = FunctionLoader(None, EXAMPLE, {"run": RUN}).load()
    assert agent.AgentInteractionFunctionDriver.get_remote_function_fields(function.spec)
    agent.AgentInteractionFunctionDriver.init_worker(None)
    monkeypatch.setattr(agent, "worker_current_function", lambda: function)
    return agent


def test_the_agent_gets_the_predictors_masks(agent, engine):
    from cvat_sdk.masks import decode_mask

    image = Image.open(BytesIO(photo_file(1)))
    box = agent._InteractionPromptsImpl(
        pos_points=(), neg_points=(), bounding_box=((30.0, 18.0), (90.0, 72.0))
    )
    points = agent._InteractionPromptsImpl(
        pos_points=((48.0, 36.0),), neg_points=((5.0, 5.0),), bounding_box=None
    )
    predictor = carsam.SamPredictor(engine)
    predictor.set_image(image)
    first = agent._worker_job_interact(("image", 0), image, box)
    then = agent._worker_job_interact_from_cache(("image", 0), points)
    for (shape,), expected in (
        (first, predictor.predict(box=[30, 18, 90, 72], multimask_output=False)),
        (then, predictor.predict([[48, 36], [5, 5]], [1, 0], multimask_output=False)),
    ):
        found = decode_mask(shape.points, image_width=120, image_height=90)
        np.testing.assert_array_equal(found, expected[0][0])

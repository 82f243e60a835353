"""The session beside transformers' own, where the two mean the same: prompts of points and boxes.

Of a mask prompt transformers makes another memory and another pointer than Meta's code does.
"""

import numpy as np
import pytest
import torch
from tiny_video import BREADTH, HEIGHT, painted_clip

from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.families import FAMILIES
from carsam.video.frames import frame_pixels
from carsam.video.predictor import SAM2VideoPredictor

CLIP, _ = painted_clip(5)
SESSIONS = {
    "sam2_video": "Sam2VideoInferenceSession",
    "sam3_tracker_video": "Sam3TrackerVideoInferenceSession",
}
PROMPTS = {
    "point": {"points": [[14, 9]], "labels": [1]},
    "box": {"box": [10, 4, 40, 30]},
}


def theirs(model, pixels, prompt):
    """Low-resolution logits (F, 4h, 4w) of transformers' session."""
    import transformers

    session = getattr(transformers, SESSIONS[model.config.model_type])(
        video=pixels, video_height=HEIGHT, video_width=BREADTH, dtype=torch.float32
    )
    index = session.obj_id_to_idx(1)
    session.obj_with_new_inputs = [1]
    places = torch.tensor(prompt.get("points", prompt.get("box")), dtype=torch.float32)
    labels = [1] if "points" in prompt else [2, 3]
    scale = pixels.shape[-1] / torch.tensor([BREADTH, HEIGHT])
    given = {
        "point_coords": (places.reshape(-1, 2) * scale)[None, None],
        "point_labels": torch.tensor([[labels]], dtype=torch.int32),
    }
    session.add_point_inputs(index, 0, given)
    with torch.inference_mode():
        model(session, frame_idx=0)
        for _ in model.propagate_in_video_iterator(session):
            pass
    outputs = session.output_dict_per_obj[index]
    found = {**outputs["non_cond_frame_outputs"], **outputs["cond_frame_outputs"]}
    return np.stack([found[frame]["pred_masks"][0, 0].numpy() for frame in sorted(found)])


@pytest.fixture(params=["tiny_sam2_video", "tiny_sam3_video"])
def model(request, monkeypatch):
    """A tiny model, which finds an object everywhere.

    transformers keeps a dimension too many where a pointer is one token.
    """
    model = request.getfixturevalue(request.param)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(9.0)
    process = model._process_object_pointers

    def processed(*arguments):
        pointers, positions = process(*arguments)
        return pointers.reshape(-1, *positions.shape[1:]), positions

    monkeypatch.setattr(model, "_process_object_pointers", processed)
    return model


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_masks_are_transformers(model, prompt):
    engine = TorchVideoEngine(FAMILIES[model.config.model_type], model, "float")
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    predictor.add_new_points_or_box(state, 0, 1, **prompt)
    list(predictor.propagate_in_video(state))
    memory = state.objects[1].memory
    ours = np.stack([memory.output(frame).logits for frame in range(len(CLIP))])
    pixels = torch.from_numpy(np.stack([frame_pixels(each, engine.framing) for each in CLIP]))
    expected = theirs(model, pixels, prompt)
    assert expected.std() > 0.01
    np.testing.assert_allclose(ours, expected, atol=1e-4 * abs(expected).max())

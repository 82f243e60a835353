from dataclasses import replace

import numpy as np
import pytest
from tiny_video import BREADTH, HEIGHT, SIDE, TinyVideoEngine, painted_clip

from carsam.engines.video import Recollection
from carsam.errors import UserError
from carsam.images.preprocess import Frame
from carsam.predict.upscale import upscale_masks
from carsam.video import arithmetic
from carsam.video.arithmetic import from_bfloat16
from carsam.video.frames import frame_pixels
from carsam.video.predictor import SAM2VideoPredictor
from carsam.video.session import NOT_A_POINT

CLIP, LABELS = painted_clip(40)
FIRST, SECOND = LABELS[0] == 1, LABELS[0] == 2


@pytest.fixture
def engine():
    return TinyVideoEngine()


def found(masks):
    """Frames and their logits, as one array."""
    masks = list(masks)
    return [frame for frame, _, _ in masks], np.array([logits for _, _, logits in masks])


def followed_by_hand(engine, frames, mask):
    """The simplest tracker of one mask, which keeps everything: logits (F, H, W)."""
    numbers, frame = engine.memory, Frame((HEIGHT, BREADTH), engine.framing)
    side = (engine.framing.side, engine.framing.side)
    square = Frame(side, engine.framing)
    results, tokens, pointers = [], [], []
    for time, image in enumerate(frames):
        embedding = engine.encode(frame_pixels(image, engine.framing))
        if time == 0:
            small = arithmetic.resized_mask(mask, side)
            given = arithmetic.prompt_of_mask(small, numbers.mask_kernel, SIDE // 4)
            prompts = replace(NOT_A_POINT, masks=given[None])
            pointer = engine.track(embedding, prompts, False).pointers[0, 0]
            logits = arithmetic.logits_of_mask(small, SIDE // 4)
            memory = (upscale_masks(logits, square) > 0).astype(np.float32)
        else:
            recent = [0, *range(max(1, time - numbers.frames + 1), time)]
            values = [arithmetic.from_bfloat16(tokens[other]) for other in recent]
            times = [-1 if other == 0 else time - other - 1 for other in recent]
            positions = [engine.positions + numbers.frame_times[row] for row in times]
            cells = [np.arange(16)] * len(recent)
            past = [0, *range(time - 1, max(0, time - numbers.pointers), -1)]
            most = min(len(frames), numbers.pointers) - 1
            for other in past:
                values.append(pointers[other].reshape(2, 4))
                weight, bias = numbers.pointer_times
                sine = arithmetic.sines(np.array([(time - other) / most]), 8)
                positions.append(np.repeat(sine @ weight.T + bias, 2, 0).astype(np.float32))
                cells.append([-1, -1])
            recollection = Recollection(*map(np.concatenate, (values, positions, cells)))
            result = engine.track(engine.recall(embedding, recollection), NOT_A_POINT, True)
            best = result.ious[0].argmax()
            logits, pointer = result.masks[0, best], result.pointers[0, best]
            memory = arithmetic.probabilities(upscale_masks(logits, square))
        pointers.append(pointer)
        scores = np.ones((1, 1), np.float32)
        remembered, _ = engine.remember(embedding, memory[None] * 20 - 10, scores)
        tokens.append(arithmetic.to_bfloat16(remembered[0]))
        results.append(upscale_masks(logits, frame))
    return np.array(results)


def test_masks_are_those_of_the_simplest_tracker(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    predictor.add_new_mask(state, 0, 7, FIRST)
    frames, logits = found(predictor.propagate_in_video(state))
    assert frames == list(range(40))
    expected = followed_by_hand(engine, CLIP, FIRST)
    np.testing.assert_allclose(logits[:, 0, 0], expected, atol=2e-5)
    assert (logits[1:] > 0).std(axis=0).any()  # the masks change


def play(predictor, frames, script, prompts=True):
    """Run a script of calls; return every array that they give, those of prompts too or not."""
    state, arrays = predictor.init_state(frames), []
    for name, *given in script:
        options = given.pop() if given and isinstance(given[-1], dict) else {}
        result = getattr(predictor, name)(state, *given, **options)
        if name == "propagate_in_video":
            arrays.extend(found(result))
        elif prompts and name == "remove_object":
            arrays.extend(masks for _, masks in result[1])
        elif prompts and result is not None:
            arrays.append(result[2])
    return arrays


POINT = {"points": [[14, 9]], "labels": [1]}
SCRIPTS = {
    "mask": [("add_new_mask", 0, 1, FIRST), ("propagate_in_video",)],
    "both ways from the middle": [
        ("add_new_mask", 9, 1, LABELS[9] == 1),
        ("add_new_points_or_box", 9, 2, {"box": [30, 20, 60, 40]}),
        ("propagate_in_video",),
        ("propagate_in_video", {"reverse": True}),
        ("propagate_in_video",),
    ],
    "corrected at the end": [
        ("add_new_points_or_box", 0, 1, POINT),
        ("propagate_in_video", 0, 12),
        ("add_new_points_or_box", 11, 1, POINT),
        ("add_new_points_or_box", 7, 1, {**POINT, "clear_old_points": False}),
        ("propagate_in_video", 7),
    ],
    "an object that comes later and leaves": [
        ("add_new_mask", 0, 1, FIRST),
        ("propagate_in_video",),
        ("add_new_mask", 12, 2, LABELS[12] == 2),
        ("propagate_in_video",),
        ("clear_all_prompts_in_frame", 12, 2),
        ("add_new_points_or_box", 12, 2, POINT),
        ("propagate_in_video",),
        ("remove_object", 1),
        ("propagate_in_video",),
    ],
}


@pytest.mark.parametrize("conditioning", [-1, 2])
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_bounded_memory_changes_nothing(script, conditioning):
    engine = TinyVideoEngine(conditioning)
    bounded = play(SAM2VideoPredictor(engine), CLIP, script, prompts=False)
    everything = play(SAM2VideoPredictor(engine, keep_all=True), CLIP, script, prompts=False)
    assert len(bounded) >= 2
    for one, other in zip(bounded, everything, strict=True):
        np.testing.assert_array_equal(one, other)


def test_little_is_kept(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    predictor.add_new_mask(state, 0, 1, FIRST)
    for _ in predictor.propagate_in_video(state):
        kept = state.objects[1].memory.followed
        assert len(kept) <= 2 * (6 + 6 - 2) + 1
        assert sum(o.tokens is not None for o in kept.values()) <= 2 * (6 + 4 - 2) + 1
    assert engine.encoded == len(CLIP)  # each frame once


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_the_nearest_frames_are_recalled_as_many_as_asked_for(engine, frames):
    predictor = SAM2VideoPredictor(engine, memory_frames=frames)
    state = predictor.init_state(CLIP[:8])
    predictor.add_new_mask(state, 0, 1, FIRST)
    list(predictor.propagate_in_video(state))
    memory = state.objects[1].memory
    recalled = memory.recall(7, 8, reverse=False)
    cells = engine.positions.shape[0]
    assert np.count_nonzero(recalled.cells >= 0) == (1 + frames) * cells
    for place in range(frames):  # the farthest first
        output = memory.followed[7 - frames + place]
        rows = slice((1 + place) * cells, (2 + place) * cells)
        np.testing.assert_array_equal(recalled.values[rows], from_bfloat16(output.tokens))
        times = engine.memory.frame_times[frames - 1 - place]
        np.testing.assert_array_equal(recalled.positions[rows], output.positions + times)


def test_all_memories_are_the_default(engine):
    script = SCRIPTS["mask"]
    one, other, fewer = (
        play(SAM2VideoPredictor(engine, memory_frames=frames), CLIP, script, prompts=False)[-1]
        for frames in (None, engine.memory.frames - 1, 1)
    )
    np.testing.assert_array_equal(one, other)
    assert (one != fewer).any()


@pytest.mark.parametrize("frames", [-1, 4])
def test_more_memories_than_the_model_has_are_refused(engine, frames):
    with pytest.raises(UserError, match=f"Found {frames} memory frames; expected 0 to 3"):
        SAM2VideoPredictor(engine, memory_frames=frames)


def test_what_is_forgotten_is_not_made_up(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    predictor.add_new_mask(state, 0, 1, FIRST)
    list(predictor.propagate_in_video(state))
    with pytest.raises(UserError, match=r"Frame 19 was followed .* keep_all"):
        predictor.add_new_points_or_box(state, 19, 1, **POINT)
    with pytest.raises(UserError, match=r"Frame 20 needs what was found in frame \d+, .* keep_all"):
        list(predictor.propagate_in_video(state, 20))


def test_an_old_correction_is_used_where_everything_is_kept(engine):
    script = [("add_new_mask", 0, 1, FIRST), ("propagate_in_video",)]
    corrected = [*script, ("add_new_points_or_box", 5, 1, POINT), ("propagate_in_video",)]
    for condition in (True, False):
        predictor = SAM2VideoPredictor(
            engine, add_all_frames_to_correct_as_cond=condition, keep_all=True
        )
        before, after = (play(predictor, CLIP, each)[-1] for each in (script, corrected))
        same = (before == after).all(axis=(1, 2, 3, 4))
        assert same.all() != condition  # Meta's default computes the frame anew


@pytest.mark.parametrize("prompt", ["mask", "point"])
def test_an_object_that_is_not_there(prompt):
    predictor = SAM2VideoPredictor(TinyVideoEngine(absent=True))
    state = predictor.init_state(CLIP[:4])
    if prompt == "mask":
        _, _, logits = predictor.add_new_mask(state, 0, 1, FIRST)
        assert (logits[0, 0] > 0).sum() > 100  # the mask given is the output
    else:
        _, _, logits = predictor.add_new_points_or_box(state, 0, 1, **POINT)
        assert (logits == -1024).all()
    _, logits = found(predictor.propagate_in_video(state))
    assert (logits[1:] == -1024).all()
    pointer = state.objects[1].memory.prompted[0].pointer
    np.testing.assert_array_equal(pointer, predictor.model.memory.no_pointer)


def test_masks_do_not_overlap_when_asked(engine):
    script = [
        ("add_new_mask", 0, 1, FIRST),
        ("add_new_mask", 0, 2, FIRST | SECOND),
        ("propagate_in_video",),
    ]
    for asked in (False, True):
        *_, logits = play(SAM2VideoPredictor(engine, non_overlap_masks=asked), CLIP, script)
        assert ((logits[:, :, 0] > 0).sum(1) > 1).any() != asked


def test_meta_reverse_from_the_first_frame_is_nothing(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    predictor.add_new_mask(state, 0, 1, FIRST)
    assert found(predictor.propagate_in_video(state, reverse=True))[0] == []
    assert found(predictor.propagate_in_video(state, 5, 3, True))[0] == [5, 4, 3, 2]


def test_coordinates_from_0_to_1(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    _, _, pixels = predictor.add_new_points_or_box(state, 0, 1, box=[20, 12, 60, 36])
    _, _, shares = predictor.add_new_points_or_box(
        predictor.init_state(CLIP), 0, 1, box=[0.25, 0.25, 0.75, 0.75], normalize_coords=False
    )
    np.testing.assert_array_equal(pixels, shares)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (("add_new_mask", 40, 1, FIRST), "Found frame index 40; expected 0 to 39"),
        (
            ("add_new_mask", 0, 1, FIRST[:9]),
            r"mask of shape \(9, 80\); expected \(48, 80\)",
        ),
        (("add_new_points_or_box", 0, 1), "neither points nor a box"),
        (("add_new_points_or_box", 0, 1, {"points": [[1, 2]]}), "points without labels"),
        (
            ("add_new_points_or_box", 0, 1, {"box": [1, 2, 3, 4], "clear_old_points": False}),
            "Give box and points together",
        ),
        (("propagate_in_video",), "Found no prompt for any object"),
        (("propagate_in_video", -1), "Found frame index -1"),
        (("propagate_in_video", 0, -1), "Found -1 frames to track"),
        (("clear_all_prompts_in_frame", 0, 5), "Found object 5; expected one .* none"),
        (("remove_object", 5, True), "Found object 5"),
    ],
)
def test_wrong_use_gets_a_sentence(engine, call, sentence):
    with pytest.raises(UserError, match=sentence):
        play(SAM2VideoPredictor(engine), CLIP, [call])


def test_an_object_whose_prompt_was_taken_back(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state(CLIP)
    predictor.add_new_mask(state, 0, 1, FIRST)
    assert predictor.remove_object(state, 3) == ([1], [])
    predictor.clear_all_prompts_in_frame(state, 0, 1)
    with pytest.raises(UserError, match="Found no prompt for objects 1; add"):
        list(predictor.propagate_in_video(state))
    predictor.reset_state(state)
    assert state.objects == {}


def test_a_prompt_that_fails_leaves_no_object(engine):
    predictor = SAM2VideoPredictor(engine)
    state = predictor.init_state([CLIP[0], CLIP[1][:9]])
    with pytest.raises(UserError, match="Frame 00001 has 80 x 9 pixels"):
        predictor.add_new_mask(state, 1, 1, FIRST)
    assert state.objects == {}


def test_a_model_without_memory_is_refused():
    class ImageEngine:
        mode, framing = "float", TinyVideoEngine.framing
        encode, decode = TinyVideoEngine.encode, TinyVideoEngine.decode

    with pytest.raises(UserError, match=r"ImageEngine \(float\) has no memory"):
        SAM2VideoPredictor(ImageEngine())
    with pytest.raises(UserError, match="fill_hole_area 8; expected 0"):
        SAM2VideoPredictor(TinyVideoEngine(), 8)

"""SAM 2's video predictor: Meta's names, argument orders and shapes, with any engine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from carsam.engines.load import load
from carsam.engines.video import VideoEngine
from carsam.errors import UserError, few
from carsam.images.given_arrays import finite_numbers, given_array
from carsam.images.prompts import Prompts
from carsam.predict.given_prompts import given_prompts, one_box, points_of_one
from carsam.predict.predictor import engine_of
from carsam.video.frames import VideoSource, open_frames
from carsam.video.session import Session, Settings

FrameMasks = tuple[int, list[int], np.ndarray]
"""Index of a frame, numbers of the objects, and their logits (N, 1, H, W) float32."""


class SAM2VideoPredictor:
    """Follows objects as `sam2.sam2_video_predictor.SAM2VideoPredictor` does, numpy in and out.

    Logits above 0 are the mask. The defaults are those of `build_sam2_video_predictor`, but for
    `add_all_frames_to_correct_as_cond`: with Meta's False, propagation computes a corrected frame
    anew, without its correction. Where Meta goes on without a word, bad input is refused.

    Args:
        sam_model: what `SamPredictor` takes, if it has a memory.
        fill_hole_area: only 0; holes are left as they are, as Meta does without its CUDA kernel.
        non_overlap_masks, add_all_frames_to_correct_as_cond, binarize_mask_from_pts_for_mem_enc:
            `non_overlap_masks`, `corrections_condition` and `binarize_prompted` of
            `carsam.video.session.Settings`.
        keep_all: of `Settings` too: old frames can be corrected, for memory that grows.
        memory_frames: of `Settings` too: fewer are faster and follow less well.

    Raises:
        UserError: the model has no memory, or recalls no such number of frames.
    """

    def __init__(
        self,
        sam_model: Any,
        fill_hole_area: float = 0,
        non_overlap_masks: bool = False,
        add_all_frames_to_correct_as_cond: bool = True,
        binarize_mask_from_pts_for_mem_enc: bool = True,
        *,
        keep_all: bool = False,
        memory_frames: int | None = None,
    ) -> None:
        if fill_hole_area > 0:
            raise UserError(
                f"Found fill_hole_area {fill_hole_area}; expected 0, as masks are not changed "
                "after the decoder. Fill holes of the masks yourself."
            )
        self.model = video_engine(sam_model)
        self.settings = Settings(
            non_overlap_masks=non_overlap_masks,
            binarize_prompted=binarize_mask_from_pts_for_mem_enc,
            corrections_condition=add_all_frames_to_correct_as_cond,
            keep_all=keep_all,
            memory_frames=memory_frames,
        )
        self.settings.numbers(self.model.memory)  # refuses before there is a video

    @classmethod
    def from_pretrained(cls, model_id: str, **settings: Any) -> "SAM2VideoPredictor":
        """Load a run, a float model's folder or file, or a Hugging Face id."""
        return cls(model_id, **settings)

    def init_state(
        self,
        video_path: VideoSource,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> Session:
        """Return a session with a video: a folder of frames, a video file, or images.

        The other arguments are Meta's and change nothing: frames are read when they are needed,
        and the session is in the computer's memory.
        """
        return Session(self.model, open_frames(video_path), self.settings)

    def add_new_points_or_box(
        self,
        inference_state: Session,
        frame_idx: int,
        obj_id: int,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: ArrayLike | None = None,
    ) -> FrameMasks:
        """Prompt an object in a frame, or correct it there.

        Args:
            inference_state: of `init_state`.
            frame_idx: index of the frame.
            obj_id: number of the object; a new one begins a new object.
            points: (N, 2), x then y.
            labels: (N,), 1 foreground, 0 background, -1 not a point.
            clear_old_points: these prompts replace the earlier ones of object and frame.
            normalize_coords: coordinates are pixels of the frame; otherwise they run from 0 to 1.
            box: (4,), x0 y0 x1 y1; only with `clear_old_points`.

        Returns:
            The frame's masks as they are now; objects that were not followed there, or so long
            ago that it is not kept, have the logit -1024.

        Raises:
            UserError: the prompts or the frame are not there or make no sense, or the frame was
                followed too long ago to be corrected.
        """
        _check_frame(inference_state, frame_idx)
        prompts = _prompts(inference_state, points, labels, box, normalize_coords)
        if not clear_old_points:
            if prompts.boxes is not None:
                raise UserError(
                    "Found a box with clear_old_points=False; expected it before all points, as "
                    "the decoder was trained. Give box and points together."
                )
            known = inference_state.objects.get(obj_id)
            prompts = _joined(known.prompts.get(frame_idx) if known else None, prompts)
        inference_state.add_prompts(frame_idx, obj_id, prompts)
        return self._masks(inference_state, frame_idx, obj_id)

    def add_new_mask(
        self, inference_state: Session, frame_idx: int, obj_id: int, mask: ArrayLike
    ) -> FrameMasks:
        """Prompt an object in a frame with its mask (H, W), or correct it there.

        Raises:
            UserError: as `add_new_points_or_box`.
        """
        _check_frame(inference_state, frame_idx)
        array = given_array(mask, "mask values")
        if array.shape != inference_state.frames.size:
            raise UserError(
                f"Found a mask of shape {array.shape}; expected {inference_state.frames.size}, "
                "height and width of the video."
            )
        inference_state.add_mask(frame_idx, obj_id, array.astype(bool))
        return self._masks(inference_state, frame_idx, obj_id)

    def propagate_in_video(
        self,
        inference_state: Session,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[FrameMasks]:
        """Yield the masks of frame after frame.

        Args:
            inference_state: of `init_state`.
            start_frame_idx: the first frame; the first with a prompt unless given.
            max_frame_num_to_track: frames after it; all unless given.
            reverse: from later frames to earlier ones.

        Raises:
            UserError: an object has no prompt, or a frame needs one that is not kept any more.
        """
        if start_frame_idx is not None:
            _check_frame(inference_state, start_frame_idx)
        if max_frame_num_to_track is not None and max_frame_num_to_track < 0:
            raise UserError(f"Found {max_frame_num_to_track} frames to track; expected 0 or more.")
        found = inference_state.propagate(start_frame_idx, max_frame_num_to_track, reverse)
        return ((frame, list(inference_state.objects), logits[:, None]) for frame, logits in found)

    def clear_all_prompts_in_frame(
        self, inference_state: Session, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> FrameMasks | None:
        """Take back an object's prompts in a frame; return the masks there with `need_output`."""
        _check_frame(inference_state, frame_idx)
        if obj_id not in inference_state.objects:
            raise _no_object(inference_state, obj_id)
        inference_state.clear_prompts(frame_idx, obj_id)
        return _newest(inference_state, frame_idx) if need_output else None

    def reset_state(self, inference_state: Session) -> None:
        """Forget all objects and prompts."""
        inference_state.reset()

    def remove_object(
        self, inference_state: Session, obj_id: int, strict: bool = False, need_output: bool = True
    ) -> tuple[list[int], list[tuple[int, np.ndarray]]]:
        """Forget an object.

        Returns:
            The numbers left, and frame by frame with prompts of it the masks (N, 1, H, W) there.

        Raises:
            UserError: there is no such object, with `strict`.
        """
        if obj_id not in inference_state.objects:
            if strict:
                raise _no_object(inference_state, obj_id)
            return list(inference_state.objects), []
        frames = inference_state.remove(obj_id)
        if not (need_output and inference_state.objects):
            return list(inference_state.objects), []
        updated = [(frame, _newest(inference_state, frame)[2]) for frame in frames]
        return list(inference_state.objects), updated

    def _masks(self, session: Session, frame: int, number: int) -> FrameMasks:
        prompted = frame in session.objects[number].new_prompted
        return frame, list(session.objects), session.masks_of(frame, prompted)[:, None]


def video_engine(model: Any) -> VideoEngine:
    """Return the engine of a model with a memory; UserError if it has none."""
    engine = load(model) if isinstance(model, str | Path) else engine_of(model)
    if not isinstance(engine, VideoEngine):
        raise UserError(
            f"The engine {type(engine).__name__} ({engine.mode}) has no memory, so that it "
            "segments single images only; expected a model of SAM 2 for videos."
        )
    return engine


def _newest(session: Session, frame: int) -> FrameMasks:
    prompted = any(frame in each.new_prompted for each in session.objects.values())
    return frame, list(session.objects), session.masks_of(frame, prompted)[:, None]


def _prompts(session: Session, points: Any, labels: Any, box: Any, in_pixels: bool) -> Prompts:
    height, width = session.frames.size
    scale = np.ones(2) if in_pixels else np.array([width, height], np.float64)
    corners = one_box(box)
    places = points_of_one(points, "points")
    if corners is None and places is None and labels is None:
        raise UserError("Found neither points nor a box; give at least one of them.")
    return given_prompts(
        None if corners is None else corners * np.tile(scale, 2),
        None if places is None else finite_numbers(places, "points") * scale,
        points_of_one(labels, "labels"),
        None,
        session.frame,
        (0, 0),
    )


def _joined(old: Prompts | None, new: Prompts) -> Prompts:
    """Return prompts with new points behind the old ones."""
    if old is None:
        return new
    assert new.points is not None and new.labels is not None  # no box: points are all there is
    if old.points is None or old.labels is None:
        return replace(new, boxes=old.boxes)
    points = np.concatenate([old.points, new.points], axis=1)
    return Prompts(points, np.concatenate([old.labels, new.labels], axis=1), old.boxes)


def _check_frame(session: Session, index: int) -> None:
    if not 0 <= index < len(session.frames):
        raise UserError(
            f"Found frame index {index}; expected 0 to {len(session.frames) - 1}, as the video has "
            f"{len(session.frames)} frames."
        )


def _no_object(session: Session, number: int) -> UserError:
    known = few(session.objects) or "none"
    return UserError(f"Found object {number}; expected one of those followed: {known}.")

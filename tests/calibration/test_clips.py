"""Clips that calibrate a memory: of pictures under a moving camera, and of videos."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_video import painted_clip, write_davis

from carsam.calibration.calibration_set import CalibrationSet
from carsam.calibration.clips import OBJECTS, clips_of_stills, clips_of_videos
from carsam.calibration.quantize import quantize
from carsam.calibration.video_folders import find_videos
from carsam.engines.torch_video_engine import TorchVideoEngine
from carsam.errors import UserError
from carsam.evaluation.strict import assert_strict
from carsam.families import FAMILIES
from carsam.families.base import Sample
from carsam.images.moving_camera import moving_camera
from carsam.images.read import sample_images
from carsam.methods.steps.ranges.round_to_nearest import RoundToNearest
from carsam.progress import Silent
from carsam.simulation.model import prepare

FAMILY = FAMILIES["sam2_video"]


@pytest.fixture
def engine(tiny_sam2_video):
    return TorchVideoEngine(FAMILY, prepare(FAMILY, tiny_sam2_video), "float")


@pytest.fixture
def stills(engine, image_folder):
    sample = sample_images(image_folder, 4, 0, warn=print)
    return sample, CalibrationSet(sample, None, 3, 0.0, 0).states(FAMILY, engine, Silent())


def frames_in(folder, frames=5, objects=1):
    """Write a painted clip and return its folder."""
    folder.mkdir(parents=True)
    for index, image in enumerate(painted_clip(frames, objects)[0]):
        Image.fromarray(image).save(folder / f"{index:05d}.png")
    return folder


def assert_equal(states, others):
    for state, other in zip(states, others, strict=True):
        assert state.keys() == other.keys()
        assert all(torch.equal(state[name], other[name]) for name in state)


def test_a_camera_moves_evenly_from_the_picture_itself(photo):
    frames = moving_camera(photo, 6, np.random.default_rng(1))
    assert frames.shape == (6, *photo.shape) and frames.dtype == np.uint8
    assert (frames[0] == photo).all()
    away = [float(np.abs(frame.astype(int) - photo).mean()) for frame in frames]
    assert away == sorted(away)
    assert (moving_camera(photo, 6, np.random.default_rng(1)) == frames).all()
    assert (moving_camera(photo, 6, np.random.default_rng(2))[1:] != frames[1:]).any()


def test_what_lies_beyond_the_picture_is_its_mirror_image():
    white = np.full((40, 60, 3), 255, np.uint8)
    assert (moving_camera(white, 8, np.random.default_rng(0)) == 255).all()


def test_a_camera_that_only_shifts_shows_what_lies_there():
    class Right:
        def uniform(self, *_):
            return np.array([1.0, 0, 0, 0])

    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(50, 0)
    frames = moving_camera(ramp, 2, Right())
    assert (frames[1][:, 20:80] == ramp[:, 24:84]).all()  # 4 % of 100 pixels


def test_clips_of_stills_hold_what_the_memory_reads(engine, stills):
    sample, states = stills
    clips = clips_of_stills(engine, sample, states.prompts, 0, Silent())
    assert len(clips) == 1
    (clip,) = clips
    frames, cells, pointers = 3, 64, 2  # a pointer of 64 channels is one token
    assert clip["hidden"].shape == (frames, 3, 128, 128)
    assert clip["memory_masks"].shape == (OBJECTS, 2, 32, 32)
    assert clip["memory_scores"].shape == (OBJECTS, 2)
    assert clip["pointers"].shape == (OBJECTS, pointers, 64)
    assert clip["memory_positions"].shape == (2 * cells + pointers, 64)
    assert clip["memory_cells"].tolist() == [*range(cells), *range(cells), -1, -1]
    assert clip["labels"].shape == (1, OBJECTS, 1) and bool((clip["labels"] == -1).all())
    picture = states[0]["hidden"][0]  # is the first of the remembered frames
    assert float((clip["hidden"][1] - picture).abs().mean()) < 0.1
    assert_equal(clips, clips_of_stills(engine, sample, states.prompts, 0, Silent()))
    other = clips_of_stills(engine, sample, states.prompts, 1, Silent())
    assert not torch.equal(other[0]["hidden"][0], clip["hidden"][0])


def test_clips_of_videos_are_seeded_and_short_videos_do(engine, tmp_path):
    long = [*frames_in(tmp_path / "long", 12).iterdir()]
    short = [*frames_in(tmp_path / "short", 2).iterdir()]
    clips = clips_of_videos(engine, [sorted(long), sorted(short)], 3, 0, Silent())
    assert sorted(len(clip["hidden"]) for clip in clips) in ([2, 2, 3], [2, 3, 3])
    again = clips_of_videos(engine, [sorted(long), sorted(short)], 3, 0, Silent())
    assert_equal(clips, again)


def test_videos_are_found_in_every_layout(tmp_path):
    davis = write_davis(tmp_path / "davis")
    assert [video[0].parent.name for video in find_videos(davis)] == ["one", "two"]
    assert all("Annotations" not in str(path) for video in find_videos(davis) for path in video)
    flat = frames_in(tmp_path / "flat")
    assert [len(video) for video in find_videos(flat)] == [5]
    frames_in(tmp_path / "many/b", 3)
    frames_in(tmp_path / "many/a", 4)
    (tmp_path / "many/notes.txt").write_text("no frame")
    assert [len(video) for video in find_videos(tmp_path / "many")] == [4, 3]


def test_folders_without_videos_get_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    frames_in(tmp_path / "single", 1)
    frames_in(tmp_path / "mixed", 3)
    frames_in(tmp_path / "mixed/more", 3)
    for name, sentence in (
        ("missing", "is no folder"),
        ("empty", "Found no video of 2 frames or more"),
        ("single", "Found no video of 2 frames or more"),
        ("mixed", "has frames and folders of frames"),
    ):
        with pytest.raises(UserError, match=sentence):
            find_videos(tmp_path / name)


def test_videos_alone_calibrate_everything(tiny_sam2_video, tmp_path, photo):
    root = write_davis(tmp_path / "davis")
    model = quantize(tiny_sam2_video, recipe="rtn", videos=root, count=2, prompts_per_image=2)
    assert_strict(model, [photo])
    facts = model.provenance["calibration"]
    assert facts["clips"] == {"count": 1, "made_of": "videos"}
    assert all(name.startswith(("one/", "two/")) for name in facts["images"])


def test_images_and_videos_calibrate_together(tiny_sam2_video, image_folder, tmp_path):
    videos = write_davis(tmp_path / "davis")
    arguments = {"recipe": "rtn", "count": 1, "prompts_per_image": 2}
    both = quantize(tiny_sam2_video, image_folder, videos=videos, **arguments)
    images = quantize(tiny_sam2_video, image_folder, **arguments)
    assert both.provenance["calibration"]["images"] == images.provenance["calibration"]["images"]
    assert images.provenance["calibration"]["clips"] == {"count": 1, "made_of": "images"}
    found, expected = (model.to_checkpoint().tensors for model in (both, images))
    differing = {name for name in found if not np.array_equal(found[name], expected[name])}
    assert any(name.startswith("memory_attention.") for name in differing)
    assert not any(name.startswith("vision_encoder.") for name in differing)


def test_videos_for_a_model_without_memory_are_refused(tiny_sam, tmp_path):
    videos = write_davis(tmp_path / "davis")
    with pytest.raises(UserError, match="family sam has no memory that videos could calibrate"):
        quantize(tiny_sam, recipe="rtn", videos=videos, count=1)


def test_nothing_to_calibrate_on_is_refused(tiny_sam):
    with pytest.raises(UserError, match="Found nothing to calibrate on; give images, or videos"):
        quantize(tiny_sam, recipe="rtn")


def test_units_see_the_samples_they_are_calibrated_on(tiny_sam2_video, image_folder, monkeypatch):
    seen = {}
    run_ = RoundToNearest.run_

    def watched(self, unit):
        counts = {len(statistics.lows) for statistics in unit.statistics.values()}
        seen.setdefault(unit.plan.samples, set()).add((len(unit.inputs), *counts))
        run_(self, unit)

    monkeypatch.setattr(RoundToNearest, "run_", watched)
    quantize(tiny_sam2_video, image_folder, "rtn", count=3, prompts_per_image=2)
    assert seen == {  # units without sites have no statistics
        (Sample.STILL,): {(3,), (3, 3)},
        (Sample.CLIP,): {(1,), (1, 1)},
        (Sample.STILL, Sample.CLIP): {(4,), (4, 4)},
    }

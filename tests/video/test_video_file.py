import numpy as np
import pytest
from tiny_video import painted_clip

from carsam.errors import MissingExtraError, UserError
from carsam.extras import EXTRAS
from carsam.video.frames import open_frames

av = pytest.importorskip("av")
CLIP, _ = painted_clip(5)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=10)  # without loss
        stream.width, stream.height, stream.pix_fmt = 80, 48, "bgr0"
        for image in CLIP:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_frames_are_read_in_any_order(video):
    frames = open_frames(video)
    assert (len(frames), frames.size, frames.names[4]) == (5, (48, 80), "00004")
    for index in (0, 1, 4, 4, 2, 3):
        np.testing.assert_array_equal(frames[index], CLIP[index])


def test_bad_files_get_a_sentence(tmp_path, video, monkeypatch):
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"none\.mp4 cannot be decoded"):
        open_frames(tmp_path / "none.mp4")
    monkeypatch.setitem(EXTRAS, "video", ("not_installed",))
    with pytest.raises(MissingExtraError, match=r"carsam\[video\]"):
        open_frames(video)

import numpy as np
import pytest
from PIL import Image
from tiny_video import painted_clip

from carsam.errors import UserError
from carsam.images.preprocess import PIXEL_MEAN, PIXEL_STD, Framing
from carsam.video.frames import frame_files, frame_pixels, open_frames

CLIP, _ = painted_clip(3)


def write(folder, names):
    for name in names:
        Image.fromarray(CLIP[0]).save(folder / name)


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    write(tmp_path, ["10.png", "9.png", "00002.jpg"])
    assert [path.name for path in frame_files(tmp_path)] == ["00002.jpg", "9.png", "10.png"]
    write(tmp_path, ["first.png"])
    assert frame_files(tmp_path)[-1].name == "first.png"


def test_frames_of_a_folder_and_in_memory_are_the_same(tmp_path):
    for index, image in enumerate(CLIP):
        Image.fromarray(image).save(tmp_path / f"{index:05d}.png")
    for frames in (open_frames(tmp_path), open_frames(CLIP)):
        assert (len(frames), frames.size) == (3, (48, 80))
        assert frames.names == ["00000", "00001", "00002"]
        np.testing.assert_array_equal([frames[index] for index in range(3)], CLIP)


def test_pixels_are_metas():
    resized = np.asarray(Image.fromarray(CLIP[0]).resize((64, 64)))
    pixels = frame_pixels(CLIP[0], Framing(64, stretched=True))
    np.testing.assert_allclose(pixels, ((resized - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1))


def test_bad_frames_get_a_sentence(tmp_path):
    with pytest.raises(UserError, match="Found no frames"):
        open_frames([])
    with pytest.raises(UserError, match="does not exist"):
        open_frames(tmp_path / "nothing")
    with pytest.raises(UserError, match="Found no image"):
        open_frames(tmp_path)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", ["0.png"])
    with pytest.raises(UserError, match="only in subfolders"):
        open_frames(tmp_path)
    write(tmp_path, ["0.png", "00.jpg"])
    with pytest.raises(UserError, match="are both frame 0"):
        open_frames(tmp_path)
    (tmp_path / "00.jpg").unlink()
    Image.fromarray(CLIP[0][:9]).save(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"Frame 1\.png has 80 x 9 pixels, frames before"):
        open_frames(tmp_path)
    with pytest.raises(UserError, match="Frame 00001 has 80 x 9 pixels"):
        open_frames([CLIP[0], CLIP[0][:9]])[1]
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty files.*Restore these frames"):
        open_frames(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1\.png"):
        open_frames(tmp_path)[1]
    with pytest.raises(UserError, match="is no folder of frames, and no video file"):
        open_frames(tmp_path / "0.png")

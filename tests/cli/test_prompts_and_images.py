"""Prompts and images on the command line: an answer or a sentence."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from carsam.cli import main


def predict(run, photo, out, *options: str) -> int:
    return main(["predict", str(run), str(photo), "--out", str(out), *options])


@pytest.fixture
def photo(scenes):
    return min((scenes / "images").iterdir())


@pytest.mark.parametrize(
    "prompt",
    [
        ["--box", "-5,10,60,50"],
        ["--box=-5,10,60,50"],
        ["--point", "-3,4"],
        ["--point=-3,4"],
        ["--point", "20,20", "--point", "-3,-4,0"],
        ["--box", "-.5,10,60,50"],
        ["--box", "-5,-1e1,60,50", "--point", "-0,4"],
    ],
    ids=" ".join,
)
def test_negative_numbers_are_values(run, photo, tmp_path, prompt) -> None:
    assert predict(run, photo, tmp_path / "mask.png", *prompt) == 0
    assert (tmp_path / "mask.png").exists()


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        (["--box", "0.1,0.1,0.5,0.5"], "normalised"),
        (["--point", "0.5,0.5"], "normalised"),
        (["--box", "-50,-50,-1,-1"], "outside the image, which is 64 pixels wide and 64 high"),
        (["--box", "70,70,90,90"], "outside"),
        (["--box", "40,40,10,10"], "second corner"),
        (["--box", "nan,1,2,3"], "NaN"),
        (["--box", "1,1,inf,3"], "infinite"),
        (["--box", "-5,1,2"], "x0,y0,x1,y1"),
        (["--point", "-5"], "x,y"),
        (["--box", "--quiet"], '"--quiet" is not understood'),
    ],
    ids=str,
)
def test_prompts_that_mean_nothing_get_a_sentence(
    run, photo, tmp_path, capsys, prompt, complaint
) -> None:
    assert predict(run, photo, tmp_path / "mask.png", *prompt) == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_deep_photo_is_named_with_its_range_once(run, tmp_path, capsys) -> None:
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.tif")
    overlay = ["--overlay", str(tmp_path / "overlay.png")]
    code = predict(run, tmp_path / "deep.tif", tmp_path / "a.png", "--box", "5,5,40,50", *overlay)
    assert code == 0
    said = capsys.readouterr().err
    assert said.count("deep.tif has more than 8 bits") == 1 and "0 to 4095" in said


@pytest.mark.parametrize("bad", ["folder", "missing.png", "empty.png", "text.png", ""])
def test_a_photo_that_is_none_is_named(run, tmp_path, capsys, bad) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    assert predict(run, tmp_path / bad, tmp_path / "mask.png", "--box", "5,5,40,50") == 2
    assert f"carsam: Cannot read image {tmp_path / bad}" in capsys.readouterr().err


@pytest.fixture
def small_limit(monkeypatch) -> None:
    """Pillow's limit, which the option changes for the process, is small, and put back."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)


@pytest.mark.usefixtures("small_limit")
def test_the_limit_of_pixels_is_an_option(run, photo, tmp_path, capsys) -> None:
    prompt = ["--box", "5,5,40,50"]
    assert predict(run, photo, tmp_path / "mask.png", *prompt) == 2
    assert "64 x 64 pixels" in (said := capsys.readouterr().err) and "--max-megapixels 1" in said
    assert predict(run, photo, tmp_path / "mask.png", *prompt, "--max-megapixels", "0.0042") == 0


PEAK = """
import sys
from carsam.cli import main
from carsam.progress import peak_memory
code = main(sys.argv[1:])
print(peak_memory() / 1e6)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_jpeg_of_150_megapixels_takes_little_more_than_its_mask(run, tmp_path) -> None:
    Image.new("L", (15_000, 10_000), 90).save(tmp_path / "photo.jpg")
    out = tmp_path / "mask.png"
    options = ["--box", "10,10,9000,9000", "--out", str(out), "--max-megapixels", "150"]
    command = [sys.executable, "-c", PEAK, "predict", str(run), str(tmp_path / "photo.jpg")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    megabytes = float(done.stdout.split()[-1])
    assert megabytes < 3 * 150 + 100  # of the mask: itself, its picture, and Pillow's copy
    assert out.exists()


@pytest.mark.usefixtures("small_limit")
def test_evaluate_names_photos_beyond_the_limit(run, scenes, tmp_path, capsys) -> None:
    where = ["--coco", str(scenes / "instances.json"), "--images", str(scenes / "images")]
    arguments = ["evaluate", str(run), *where, "--json", str(tmp_path / "a.json"), "--quiet"]
    assert main([*arguments, "--compare", "none"]) == 2
    said = capsys.readouterr().err
    assert "too-large-image: 3 image files" in said and "--max-megapixels" in said
    assert main([*arguments, "--compare", "none", "--max-megapixels", "1"]) == 0


@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(run, photo, tmp_path, capsys, limit) -> None:
    options = ["--box", "5,5,40,50", "--max-megapixels", limit]
    assert predict(run, photo, tmp_path / "mask.png", *options) == 2
    assert "--max-megapixels" in capsys.readouterr().err


def test_embed_finds_linked_folders_and_counts_what_it_passes_over(
    run, scenes, tmp_path, capsys
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "album").symlink_to(scenes / "images")
    (photos / "loop").symlink_to(photos)
    (photos / "empty.jpg").touch()
    (photos / "broken.png").write_text("no image")
    Image.new("RGB", (64, 64)).save(photos / "QUITE.JFIF", "JPEG")
    (photos / "notes.txt").write_text("text")
    assert main(["embed", str(run), str(photos), "--cache", str(tmp_path / "kept")]) == 0
    said = capsys.readouterr()
    assert "4 embeddings computed, 0 already there, 1 images skipped" in said.out
    for part in ("empty files (1: empty.jpg)", "broken.png", "(1: notes.txt)", "(1: loop)"):
        assert part in said.err

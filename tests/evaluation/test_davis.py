import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_video import TinyVideoEngine, write_davis

from carsam.errors import UserError
from carsam.evaluation.davis import evaluate_davis, measure_masks
from carsam.evaluation.davis.curves import statistics
from carsam.evaluation.davis.evaluate import PROMPTERS, follow
from carsam.evaluation.davis.measures import contour_accuracy, region_similarity
from carsam.evaluation.davis.sequences import read_sequences

GENERATOR = np.random.default_rng(0)


def blob(shape=(40, 57)):
    rows, columns = np.indices(shape)
    top, left, radius = GENERATOR.uniform(0, 40), GENERATOR.uniform(0, 57), GENERATOR.uniform(2, 20)
    mask = (rows - top) ** 2 + (columns - left) ** 2 < radius**2
    return mask ^ (GENERATOR.random(shape) > 0.995)


def contour_by_hand(predicted, true):
    """F with loops over pixels and pairs of outlines' pixels."""
    reach = np.ceil(0.008 * np.linalg.norm(true.shape))

    def outline(mask):
        height, width = mask.shape
        places = []
        for y in range(height):
            for x in range(width):
                beside = [(y, x + 1), (y + 1, x)]
                beside += [(y + 1, x + 1)] if y + 1 < height and x + 1 < width else []
                inside = [(a, b) for a, b in beside if a < height and b < width]
                if any(mask[y, x] != mask[a, b] for a, b in inside):
                    places.append((y, x))
        return np.array(places).reshape(-1, 2)

    one, other = outline(predicted), outline(true)
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    far = ((one[:, None] - other) ** 2).sum(-1) > reach**2
    precision, recall = 1 - far.all(1).mean(), 1 - far.all(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_measures_are_those_made_by_hand():
    values = []
    for _ in range(25):
        predicted, true = blob(), blob()
        expected = (predicted & true).sum() / max(1, (predicted | true).sum())
        assert region_similarity(predicted, true) == expected
        values.append(contour_accuracy(predicted, true))
        assert values[-1] == pytest.approx(contour_by_hand(predicted, true), abs=1e-12)
    assert len(set(values)) > 10


def test_measures_of_empty_and_full_masks():
    nothing, everything = np.zeros((9, 9), bool), np.ones((9, 9), bool)
    half = np.arange(81).reshape(9, 9) > 40
    for one, other, J, F in (
        (nothing, nothing, 1, 1),
        (nothing, half, 0, 0),
        (half, nothing, 0, 0),
        (everything, everything, 1, 1),
        (half, half, 1, 1),
    ):
        assert (region_similarity(one, other), contour_accuracy(one, other)) == (J, F)


def test_measures_are_those_of_vos_benchmark():
    evaluator = pytest.importorskip("vos_benchmark.evaluator").Evaluator()
    pairs = [(blob(), blob()) for _ in range(10)]
    for predicted, true in pairs:
        evaluator.feed_frame(predicted.astype(np.uint8), true.astype(np.uint8))
    evaluator.conclude()
    np.testing.assert_allclose(evaluator.object_iou[1], [region_similarity(*p) for p in pairs])
    np.testing.assert_allclose(evaluator.boundary_f[1], [contour_accuracy(*p) for p in pairs])


def test_statistics():
    found = statistics([1.0, 1.0, 0.8, 0.6, 0.5, 0.4, 0.2, 0.0])
    assert found["mean"] == pytest.approx(0.5625)
    assert found["recall"] == 0.5  # 0.5 itself does not count
    # round(linspace(1, 8, 5)) - 1 = 0 2 4 5 7: frames 0 to 2 and 5 to 7
    assert found["decay"] == pytest.approx(2.8 / 3 - 0.2)
    assert statistics([])["mean"] is None


@pytest.fixture
def root(tmp_path):
    return write_davis(tmp_path / "davis")


@pytest.fixture
def found(root, tmp_path):
    """Predicted masks: the true ones."""
    shutil.copytree(root / "Annotations/480p", tmp_path / "found")
    return tmp_path / "found"


def test_true_masks_are_right(root, found):
    for year, objects in (("2016", 2), ("2017", 3)):
        result = measure_masks(found, root, year=year)
        assert sum(len(sequence.curves.J) for sequence in result.sequences) == objects
        assert {len(curve) for s in result.sequences for curve in s.curves.J.values()} == {4}
        assert (result.J_and_F, result.J["recall"], result.F["decay"]) == (1, 1, 0)
        assert result.intervals["J"] == [1, 1]


def test_first_and_last_frame_are_not_judged(root, found):
    nothing = Image.fromarray(np.zeros((48, 80), np.uint8))
    for name in ("00000.png", "00005.png"):
        nothing.save(found / "one" / name)
    assert measure_masks(found, root).J_and_F == 1
    nothing.save(found / "one" / "00001.png")
    result = measure_masks(found, root)
    assert result.sequences[0].curves.J[1] == [0, 1, 1, 1]
    assert result.J_and_F == pytest.approx(0.875)  # of (0.75 + 1) / 2, over sequences


def test_objects_count_alike_in_2017(root, found):
    labels = np.zeros((48, 80), np.uint8)
    for place in range(6):
        Image.fromarray(labels).save(found / "one" / f"{place:05d}.png")
    assert measure_masks(found, root, year="2016").J["mean"] == pytest.approx(1 / 2)
    assert measure_masks(found, root, year="2017").J["mean"] == pytest.approx(2 / 3)


def test_bad_masks_get_a_sentence(root, found):
    (found / "two" / "00002.png").unlink()
    with pytest.raises(UserError, match=r"no masks 00002.png in .*two"):
        measure_masks(found, root)
    Image.fromarray(np.full((48, 80), 3, np.uint8)).save(found / "two" / "00002.png")
    assert measure_masks(found, root, year="2016").J_and_F < 1
    with pytest.raises(UserError, match="objects 3 in frame 00002 of two; expected 1, 2"):
        measure_masks(found, root, year="2017")
    Image.fromarray(np.ones((40, 80), np.uint8)).save(found / "two" / "00002.png")
    with pytest.raises(UserError, match="80 x 40 pixels in frame 00002 of two; expected 80 x 48"):
        measure_masks(found, root)
    Image.fromarray(np.ones((48, 80, 3), np.uint8)).save(found / "two" / "00002.png")
    with pytest.raises(UserError, match="pixels of mode RGB; expected masks as numbers"):
        measure_masks(found, root)
    (found / "two" / "00002.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"00002\.png"):
        measure_masks(found, root)


def test_bad_data_get_a_sentence(root, tmp_path):
    with pytest.raises(UserError, match="has no frames and masks; expected the folders"):
        read_sequences(tmp_path, "2016")
    with pytest.raises(UserError, match=r"no folder of masks for three in .* among one, two"):
        read_sequences(root, "2016", ["three"])
    masks, frames = root / "Annotations/480p/one", root / "JPEGImages/480p/one"
    Image.fromarray(np.zeros((48, 80), np.uint8)).save(masks / "00000.png")
    with pytest.raises(UserError, match="first frame of one holds no object"):
        evaluate_davis(TinyVideoEngine(), root)
    (frames / "00003.png").unlink()
    with pytest.raises(UserError, match="one has masks without a frame: 00003"):
        read_sequences(root, "2016")
    (masks / "00003.png").unlink()
    (masks / "00004.png").unlink()
    with pytest.raises(UserError, match="one has frames without a mask: 00004"):
        read_sequences(root, "2016")
    for place in (2, 4, 5):
        (frames / f"0000{place}.png").unlink()
        (masks / f"0000{place}.png").unlink(missing_ok=True)
    with pytest.raises(UserError, match="one has 2 frames with true masks; expected 3 or more"):
        read_sequences(root, "2016")
    for path in (root / "Annotations/480p/two").iterdir():
        Image.open(path).resize((40, 24), Image.Resampling.NEAREST).save(path)
    with pytest.raises(UserError, match="frames of two have 80 x 48 pixels, its masks 40 x 24"):
        evaluate_davis(TinyVideoEngine(), root, names=["two"])


@pytest.mark.parametrize("prompts", PROMPTERS)
def test_an_engine_is_measured_as_its_masks_are(root, tmp_path, prompts):
    engine = TinyVideoEngine()
    for sequence in read_sequences(root, "2017"):
        (tmp_path / "found" / sequence.name).mkdir(parents=True)
        for place, masks in follow(engine, sequence, PROMPTERS[prompts]):
            labels = sum(number * mask.astype(np.uint8) for number, mask in masks.items())
            Image.fromarray(labels).save(tmp_path / "found" / sequence.name / f"{place:05d}.png")
    result = evaluate_davis(engine, root, prompts=prompts, year="2017", model="tiny")
    expected = measure_masks(tmp_path / "found", root, year="2017")
    assert [s.curves for s in result.sequences] == [s.curves for s in expected.sequences]
    assert 0 <= result.J_and_F < 1
    assert (result.mode, result.prompts, result.year) == ("float", prompts, "2017")
    assert result.intervals["J"][0] <= result.J["mean"] <= result.intervals["J"][1]
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["sequences"][1]["objects"]["2"]["J"]["mean"] >= 0


def test_unknown_prompts_are_refused(root):
    with pytest.raises(UserError, match="Unknown prompts 'words'; expected one of masks, boxes"):
        evaluate_davis(TinyVideoEngine(), root, prompts="words")


def test_the_result_says_how_many_memories_there_were(root):
    whole, fewer = (evaluate_davis(TinyVideoEngine(), root, memory_frames=n) for n in (None, 1))
    assert whole.to_json()["memory_frames"] is None
    assert fewer.to_json()["memory_frames"] == 1
    assert [s.curves for s in whole.sequences] != [s.curves for s in fewer.sequences]


def test_a_stopped_evaluation_goes_on(root, tmp_path):
    class Stopped(Exception):
        pass

    class Stopping(TinyVideoEngine):
        def encode(self, pixels):
            if self.encoded == 8:  # of 6 frames a sequence
                raise Stopped
            return super().encode(pixels)

    target = tmp_path / "result.json"
    with pytest.raises(Stopped):
        evaluate_davis(Stopping(), root, target=target)
    engine = TinyVideoEngine()
    result = evaluate_davis(engine, root, target=target)
    assert engine.encoded == 6
    again = evaluate_davis(engine, root, target=target, prompts="boxes")
    assert engine.encoded == 18  # other prompts, another journal
    whole = evaluate_davis(engine, root)
    assert [s.curves for s in result.sequences] == [s.curves for s in whole.sequences]
    assert [s.curves for s in again.sequences] != [s.curves for s in whole.sequences]


def test_sav_has_masks_for_each_object(tmp_path):
    davis, sav = write_davis(tmp_path / "davis", ("one", "two"), frames=17), tmp_path / "sav"
    shutil.copytree(davis / "JPEGImages/480p/two", sav / "JPEGImages_24fps/two")
    for number in (1, 2):
        folder = sav / f"Annotations_6fps/two/{number - 1:03d}"
        folder.mkdir(parents=True)
        for place in range(4 * (number - 1), 17, 4):  # the second object comes later
            labels = np.array(Image.open(davis / f"Annotations/480p/two/{place:05d}.png"))
            mask = 255 * (labels == number).astype(np.uint8)
            Image.fromarray(mask).save(folder / f"{place:05d}.png")
    (sequence,) = read_sequences(sav, "2017")
    assert sequence.judged == (4, 8, 12)
    assert {n: place for n, (place, _) in sequence.first_masks().items()} == {1: 0, 2: 4}
    result = evaluate_davis(TinyVideoEngine(), sav)
    assert [len(curve) for curve in result.sequences[0].curves.J.values()] == [3, 3]
    assert result.intervals["J"] is None  # one sequence

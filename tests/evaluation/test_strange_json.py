"""Whatever a COCO json or a detector's json holds, there is a result or a sentence about it."""

import copy
import json

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from carsam.calibration.prompts import annotated_boxes
from carsam.errors import UserError
from carsam.evaluation.evaluate import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what is left out is told

TOP = ("images", "annotations", "categories")
FIELDS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": (("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")),
    "categories": ("id", "name"),
}
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]

numbers = st.one_of(
    st.integers(-3, 12),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([10**400, 2**31, 2**63, 1e308, -1e308, 0.5, 1e-320, -0.0]),
)
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["0.png", "../0.png", "a/0.png", "\0", "/", "10", "nan", "\ud800", "9" * 5000]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
polygons = st.lists(st.one_of(st.integers(-90, 170), scalars), max_size=9)
run_lengths = st.fixed_dictionaries(
    {},
    optional={
        "size": st.one_of(
            st.just([64, 80]), st.just([64.0, "80"]), st.lists(scalars, max_size=3), scalars
        ),
        "counts": st.one_of(
            st.text("0123PQ`o?", max_size=12),
            st.lists(st.one_of(st.just(64), scalars), max_size=4),
            st.just([64 * 80]),
            scalars,
        ),
    },
)
segmentations = st.one_of(
    run_lengths, polygons, st.lists(st.one_of(polygons, st.just(SQUARE), scalars), max_size=3)
)
strange = st.one_of(
    scalars,
    segmentations,
    st.lists(numbers, min_size=4, max_size=4),
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
)


@st.composite
def edits(draw):
    """Places in a document, and what is put there; a place of None means everywhere."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        key = draw(st.sampled_from(TOP))
        place = draw(st.none() | st.integers(0, 11))
        field = draw(st.sampled_from([*FIELDS[key], *FIELDS[key], "entry", "list"]))
        action = draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
        found.append(
            (key, place, field, action, draw(segmentations if field == "segmentation" else strange))
        )
    return found


def edited(document, changes):
    document = copy.deepcopy(document)
    for key, place, field, action, value in changes:
        entries = document.get(key)
        if not isinstance(entries, list) or field == "list":
            if action == "remove":
                document.pop(key, None)
            else:
                document[key] = value
            continue
        places = range(len(entries)) if place is None else [place] * (place < len(entries))
        for index in places:
            if action == "repeat":
                entries.append(copy.deepcopy(entries[index]))
            elif field == "entry":
                entries[index] = value
            elif isinstance(entries[index], dict):
                if action == "remove":
                    entries[index].pop(field, None)
                else:
                    entries[index][field] = value
    return document


@pytest.fixture
def base(coco_json):
    return json.loads(coco_json(crowds=True).read_text())


@pytest.fixture
def try_out(box_engine, tmp_path):
    """Function that reads a json text for evaluation and for calibration."""

    def try_out(text, **options):
        path = tmp_path / "strange.json"
        path.write_text(text)
        for use in (
            lambda: evaluate(box_engine(), path, tmp_path, bootstrap=2, **options).to_json(),
            lambda: annotated_boxes(path, tmp_path),
        ):
            try:
                found = use()
            except UserError as error:
                assert "strange.json" in str(error)
            else:
                json.dumps(found, allow_nan=False, default=lambda array: array.tolist())

    return try_out


few = hypothesis_settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@few
@given(changes=edits(), kind=st.sampled_from(["boxes", "clicks"]))
def test_any_field_may_hold_anything(try_out, base, changes, kind):
    try_out(json.dumps(edited(base, changes)), prompts=kind)


@few
@given(document=strange)
@example(document=[])
@example(document={"images": {}, "annotations": {}})
@example(document={"images": [{}], "annotations": [{}], "categories": [{}]})
@example(document={"images": [[]], "annotations": [[]], "categories": [[]]})
@example(document={"images": [None], "annotations": [None], "categories": [None]})
def test_any_document_has_an_answer(try_out, document):
    try_out(json.dumps(document))


@pytest.mark.parametrize("depth", [50, 500, 800, 900, 950, 980, 5000])
@pytest.mark.parametrize("key", FIELDS["annotations"])
def test_deep_values_have_an_answer(try_out, base, key, depth):
    for annotation in base["annotations"]:
        annotation[key] = "DEEP"
    text = json.dumps(base).replace('"DEEP"', "[" * depth + "]" * depth)
    try_out(text)


@few
@given(
    entries=st.lists(
        st.one_of(
            strange,
            st.fixed_dictionaries(
                {},
                optional={
                    "image_id": st.sampled_from([10, "10", 11]) | scalars,
                    "category_id": st.sampled_from([3, "05", 9]) | scalars,
                    "bbox": st.just([1, 2, 30, 40]) | strange,
                    "score": st.just(0.5) | scalars,
                },
            ),
        ),
        max_size=4,
    )
    | strange
)
def test_any_detections_have_an_answer(coco_json, box_engine, tmp_path, entries):
    detections = tmp_path / "found.json"
    detections.write_text(json.dumps(entries))
    try:
        evaluate(
            box_engine(),
            coco_json(),
            tmp_path,
            prompts="detections",
            detections=detections,
            score="detector-times-iou",
            bootstrap=2,
        )
    except UserError as error:
        assert "found.json" in str(error)

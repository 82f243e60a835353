"""Ids say what belongs together and decide nothing else: all schemes give the same numbers."""

import copy
import json
import uuid

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from carsam.evaluation.evaluate import evaluate
from carsam.evaluation.ids import parse_id

SCHEMES = {
    "from 0": lambda n: n,
    "from 1": lambda n: n + 1,
    "falling": lambda n: 1000 - n,
    "negative": lambda n: -1 - n,
    "around 2^31": lambda n: 2**31 - 2 + n,
    "around 2^53": lambda n: 2**53 - 2 + n,
    "around 2^63": lambda n: 2**63 - 2 + n,
    "below -2^63": lambda n: -(2**63) - n,
    "128 bits": lambda n: uuid.uuid5(uuid.NAMESPACE_OID, str(n)).int,
    "uuid": lambda n: str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))),
    "floats": lambda n: float(n),
    "text": lambda n: str(n),
    "padded": lambda n: f"{n:012}",
    "fractions": lambda n: n + 0.5,
}
COUNTS = (3, 18, 3)
"""Images, annotations, categories."""

EQUAL_IDS = {"all annotations 1": lambda n: 1, "no ids": lambda n: None}


def renamed(document, images, annotations, categories):
    """The document under other ids; each argument maps old ids to new ones."""
    document = copy.deepcopy(document)
    for image in document["images"]:
        image["id"] = images[image["id"]]
    for category in document["categories"]:
        category["id"] = categories[category["id"]]
    for annotation in document["annotations"]:
        annotation["id"] = annotations[annotation["id"]]
        annotation["image_id"] = images[annotation["image_id"]]
        annotation["category_id"] = categories[annotation["category_id"]]
    return document


def old_ids(document):
    lists = (document["images"], document["annotations"], document["categories"])
    return [[entry["id"] for entry in entries] for entries in lists]


def scheme(images="from 1", annotations="from 1", categories="from 1"):
    names = (images, annotations, categories)
    make = {**SCHEMES, **EQUAL_IDS}
    return [
        [make[name](n) for n in range(count)] for name, count in zip(names, COUNTS, strict=True)
    ]


@pytest.fixture
def numbers(coco_json, box_engine, tmp_path):
    """Function (ids of images, annotations, categories) -> all numbers and warnings."""
    document = json.loads(coco_json(images=COUNTS[0], crowds=True, seed=1).read_text())

    def evaluated(shrink, path, **options):
        result = evaluate(box_engine(shrink=shrink), path, tmp_path, bootstrap=20, **options)
        accuracy = result.accuracy
        return accuracy.coco, accuracy.mean_iou, accuracy.intervals, result.instances

    def numbers(*new_ids):
        pairs = zip(old_ids(document), new_ids, strict=True)
        new = renamed(document, *(dict(zip(old, ids, strict=True)) for old, ids in pairs))
        path, detections = tmp_path / "other.json", tmp_path / "detections.json"
        path.write_text(json.dumps(new))
        keys = ("image_id", "category_id", "bbox")
        found = [{key: item[key] for key in keys} | {"score": 0.5} for item in new["annotations"]]
        detections.write_text(json.dumps(found))
        return [
            evaluated(0, path),
            evaluated(3, path),
            evaluated(3, path, score="constant", limit=2),
            evaluated(3, path, prompts="detections", detections=detections),
        ]

    return numbers


@pytest.fixture
def expected(numbers):
    return numbers(*scheme())


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_all_schemes_give_the_same_numbers(numbers, expected, key, name):
    assert numbers(*scheme(**{key: name})) == expected


@pytest.mark.parametrize("name", EQUAL_IDS)
def test_annotations_need_no_ids_of_their_own(numbers, expected, name):
    assert numbers(*scheme(annotations=name)) == expected


@pytest.mark.parametrize("name", SCHEMES)
def test_true_masks_have_ap_one_under_all_schemes(numbers, name):
    coco, mean_iou, intervals, _ = numbers(*scheme(name, name, name))[0]
    assert coco["AP"] == coco["AR100"] == mean_iou == 1.0
    assert intervals["AP"] == [1.0, 1.0]


one_id = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.text(min_size=1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.uuids().map(str),
).filter(lambda value: parse_id(value) is not None)


@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.tuples(*(st.lists(one_id, min_size=n, max_size=n, unique_by=parse_id) for n in COUNTS))
)
def test_any_ids_give_the_same_numbers(numbers, expected, ids):
    assert numbers(*ids) == expected

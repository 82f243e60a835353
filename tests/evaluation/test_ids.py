import pytest

from carsam.evaluation.ids import IdTable, count_from_one, parse_id


@pytest.mark.parametrize(
    ("value", "identity"),
    [
        (7, 7),
        (-7, -7),
        (0, 0),
        (2**100, 2**100),
        (7.0, 7),
        (7.5, "7.5"),
        ("7", "7"),
        ("a b", "a b"),
    ],
)
def test_numbers_and_text_are_ids(value, identity):
    assert parse_id(value) == identity


@pytest.mark.parametrize("value", [None, True, "", "  ", float("nan"), float("inf"), [7], {}])
def test_nothing_else_is_an_id(value):
    assert parse_id(value) is None


@pytest.mark.parametrize("spelling", [139, "139", "000000000139", "139.0", " 139 ", "+139"])
def test_other_spellings_find_the_number(spelling):
    assert IdTable([138, 139]).find(spelling) == 139


def test_a_number_finds_its_spelling():
    assert IdTable(["0138", "0139"]).find(139) == "0139"


def test_the_very_same_id_comes_first():
    table = IdTable([1, "1", "01"])
    assert [table.find(identity) for identity in (1, "1", "01")] == [1, "1", "01"]


def test_a_spelling_of_two_ids_finds_neither():
    assert IdTable(["1", "01"]).find(1) is None


def test_unknown_ids_are_not_found():
    assert IdTable([1]).find(2) is None


def test_text_of_very_many_digits_is_compared_as_text():
    assert IdTable(["9" * 5000]).find(9) is None


def test_ids_are_kept_once_in_their_order():
    assert IdTable([3, 1, 3, "1"]).ids == (3, 1, "1")


def test_numbers_begin_with_one():
    assert count_from_one(["b", 0]) == {"b": 1, 0: 2}

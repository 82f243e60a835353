import json

import numpy as np
import pytest

from carsam.formats.journal import Item, Journal, remove_journals


@pytest.fixture
def journal(tmp_path):
    """Function (identity, name of the target) -> a journal that fails on warnings."""

    def journal(identity, target="run", warn=pytest.fail):
        return Journal(tmp_path / target, "units", identity, warn)

    return journal


ITEM = Item({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(0.1)}, {"n": [1]})


def test_an_item_comes_back_as_it_was(journal):
    journal({"seed": 0}).store("one", ITEM)
    again = journal({"seed": 0})
    found = again.restore("one")
    for name, array in ITEM.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    assert found.document == again.document("one") == ITEM.document


def test_what_was_not_kept_is_not_there(journal):
    assert journal({"seed": 0}).restore("one") is None
    journal({"seed": 0}).store("one", ITEM)
    assert journal({"seed": 0}).restore("two") is None
    assert journal({"seed": 1}).restore("one") is None
    assert journal({"seed": 0}, "other").restore("one") is None


@pytest.mark.parametrize("kept", [slice(-3), slice(20), slice(1), slice(0)])
def test_a_half_written_item_is_not_taken_for_a_whole_one(journal, kept):
    made = journal({"seed": 0})
    made.store("one", ITEM)
    (path,) = made.folder.glob("one.*")
    path.write_bytes(path.read_bytes()[kept])
    assert made.restore("one") is None
    assert made.document("one") is None


def test_an_item_is_replaced(journal):
    made = journal({})
    made.store("one", ITEM)
    made.store("one", Item({}, "second"))
    assert made.restore("one").document == "second"


def test_what_cannot_be_written_is_warned_of_once(journal, limited_files):
    heard = []
    made = journal({"seed": 0}, warn=heard.append)
    with limited_files(1000):
        for name in ("one", "two"):
            made.store(name, Item({"a": np.zeros(1000)}, None))
    (message,) = heard
    assert "Cannot write" in message and "goes on" in message
    assert made.restore("one") is None
    assert not [path for path in made.folder.iterdir() if path.name != "identity.json"]
    made.store("one", ITEM)  # there is room again
    assert made.restore("one") is not None


def test_others_of_the_target_say_in_what_they_differ(journal):
    journal({"seed": 0, "bits": "w4a4"}).store("one", ITEM)
    journal({"seed": 0, "bits": "w4a4"}, "run-2").store("one", ITEM)
    assert journal({"seed": 1, "bits": "w4a4", "new": 1}).differences() == [{"seed", "new"}]
    assert journal({"seed": 0, "bits": "w4a4"}).differences() == []


@pytest.mark.parametrize("content", ["", "[]", "{", "3"])
def test_an_unreadable_identity_is_passed_over(journal, content):
    made = journal({"seed": 0})
    made.store("one", ITEM)
    (made.folder / "identity.json").write_text(content)
    journal({"seed": 1}).differences()


def test_only_the_targets_own_journals_are_removed(journal, tmp_path):
    targets = ("run", "run-2", "run-0123456789ab", "run-w8a8", "runner", "a.run")
    for target in targets:
        for seed in (0, 1):
            journal({"seed": seed}, target).store("one", ITEM)
    others = (".run-0123456789ab.notes", ".run-0123456789abc.units", "run-0123456789ab.units")
    for name in others:
        (tmp_path / name).mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    own = {journal({"seed": seed}).folder.name for seed in (0, 1)}
    remove_journals(tmp_path / "run", "units")
    assert {path.name for path in tmp_path.iterdir()} == before - own


def test_the_identity_can_be_read(journal):
    made = journal({"seed": 0, "bits": "w4a4"})
    made.store("one", ITEM)
    identity = json.loads((made.folder / "identity.json").read_text())
    assert identity == {"seed": 0, "bits": "w4a4"}

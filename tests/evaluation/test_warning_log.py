from types import SimpleNamespace

import pytest

from carsam.evaluation.warning_log import WarningLog, listed


def test_all_are_counted_and_the_first_five_named():
    log = WarningLog()
    for identity in range(7):
        log.add("empty-mask", identity)
    (entry,) = log.to_json()
    assert entry["count"] == 7
    assert entry["examples"] == [0, 1, 2, 3, 4]
    assert "(0, 1, 2, 3, 4, ...)" in str(log)


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        WarningLog().add("odd", 1)


def test_long_lists_are_shortened():
    assert listed([1, 2, 3]) == "1, 2, 3"
    assert listed(list(range(9))) == "0, 1, 2, 3, 4, ..."


def test_what_has_counted_on_is_told_again_at_the_end():
    said = []
    log, progress = WarningLog(), SimpleNamespace(warn=said.append)
    for name in ("empty-mask", "unreadable-image", "empty-mask"):
        log.add(name, "a")
        log.tell(progress)
    assert [sentence.split()[1] for sentence in said] == ["1", "1"]
    log.tell(progress, last=True)
    assert len(said) == 3 and said[2].startswith("empty-mask: 2 ")

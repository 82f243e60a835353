from types import SimpleNamespace

import pytest

from carsam.evaluation.warning_log import MESSAGES, WarningLog, listed


def test_all_are_counted_and_the_first_five_named():
    log = WarningLog()
    for identity in range(7):
        log.add("empty-mask", identity)
    (entry,) = log.to_json()
    assert entry["count"] == 7
    assert entry["examples"] == [0, 1, 2, 3, 4]
    assert "(0, 1, 2, 3, 4, ...)" in log.sentences()


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        WarningLog().add("odd", 1)


def test_long_lists_are_shortened():
    assert listed([1, 2, 3]) == "1, 2, 3"
    assert listed(list(range(9))) == "0, 1, 2, 3, 4, ..."


def test_messages_name_the_file_at_fault():
    log = WarningLog("folder/coco.json", "folder/found.json")
    for name in MESSAGES:
        log.add(name, 1)
        message = log.to_json()[-1]["message"]
        assert message.startswith("1 ")
        assert "coco.json" in message or "found.json" in message


def test_boxes_are_those_of_the_json_where_nothing_else_prompts():
    log = WarningLog("folder/coco.json")
    log.add("zero-area-box", 1)
    assert log.to_json()[0]["message"] == "1 boxes of coco.json have no area; not prompted"


def test_text_from_the_json_is_shown_on_one_line():
    assert listed(["a\nb", "\x1b[31m"]) == r"a\nb, \x1b[31m"


def test_what_has_counted_on_is_told_again_at_the_end():
    said = []
    log, progress = WarningLog("coco.json"), SimpleNamespace(warn=said.append)
    for name in ("empty-mask", "unreadable-image", "empty-mask"):
        log.add(name, "a")
        log.tell(progress)
    assert [sentence.split()[1] for sentence in said] == ["1", "1"]
    log.tell(progress, last=True)
    assert len(said) == 3 and said[2].startswith("empty-mask: 2 ")

"""The reporter: what each mode writes, and where."""

import io
import json

import pytest

from carsam import progress
from carsam.progress import Silent, Task, make_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(reporter: progress.Progress, steps: int = 4) -> None:
    reporter.start("Calibrating", steps)
    for step in range(steps):
        reporter.advance(note=f"image {step}")
    reporter.finish()


def test_plain_writes_one_line_per_stage_when_the_work_is_quick() -> None:
    stream = io.StringIO()
    work(make_progress("auto", stream), steps=100)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("Calibrating: 100/100 in ")
    assert "peak" in line


def test_plain_writes_time_left_and_note_every_few_seconds(monkeypatch) -> None:
    seconds = iter(range(0, 1000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))
    stream = io.StringIO()
    work(make_progress("plain", stream))
    first = stream.getvalue().splitlines()[0]
    assert " left, peak " in first
    assert first.endswith("image 0")


def test_a_new_stage_finishes_the_one_before() -> None:
    stream = io.StringIO()
    reporter = make_progress("plain", stream)
    reporter.start("First", 2)
    work(reporter)
    assert [line.split(":")[0] for line in stream.getvalue().splitlines()] == [
        "First",
        "Calibrating",
    ]


def test_json_lines_hold_every_event() -> None:
    stream = io.StringIO()
    reporter = make_progress("json", stream)
    work(reporter, steps=2)
    reporter.warn("careful")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "start",
        "advance",
        "advance",
        "finish",
        "warning",
    ]
    assert events[1]["done"] == 1 and events[1]["total"] == 2
    assert events[1]["note"] == "image 0" and events[1]["seconds_left"] >= 0
    assert events[-1]["message"] == "careful"


def test_terminal_shows_a_bar_with_count_and_memory() -> None:
    stream = Terminal()
    work(make_progress("auto", stream))
    assert "4/4" in stream.getvalue() and "peak" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_messages_with_brackets_survive(stream: io.StringIO) -> None:
    make_progress("auto", stream).warn("pip install 'carsam[quantize]'")
    assert "carsam[quantize]" in stream.getvalue()


def test_quiet_writes_warnings_only() -> None:
    stream = io.StringIO()
    reporter = make_progress("quiet", stream)
    work(reporter)
    reporter.info("fine")
    reporter.warn("photo.jpg is unreadable")
    assert stream.getvalue() == "Warning: photo.jpg is unreadable\n"


def test_the_silent_reporter_raises_python_warnings() -> None:
    work(Silent())
    with pytest.warns(UserWarning, match="unreadable"):
        Silent().warn("photo.jpg is unreadable")


def test_nothing_is_written_to_standard_output(capsys) -> None:
    work(make_progress("auto"))
    assert capsys.readouterr().out == ""


def test_time_left_follows_the_pace(monkeypatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    stage = Task("x", 10)
    assert stage.seconds_left is None
    stage.done = 4
    monkeypatch.setattr(progress.time, "monotonic", lambda: 8.0)
    assert stage.seconds_left == pytest.approx(12)

"""An annotation that is killed goes on without loss or repetition."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from annotation_files import rows

from carsam.annotation.annotate import annotate
from carsam.annotation.job import Job, Shard
from carsam.annotation.workers.dispatch import DEATHS, annotate_shards
from carsam.annotation.workers.processes import ProcessWorkers
from carsam.errors import UserError
from carsam.progress import Silent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

RUN_CLI = "import sys\nfrom carsam.cli import main\nsys.exit(main(sys.argv[1:]))"


def files(folder):
    """Names of a folder's files and their bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def running(process_group):
    """Whether a process of the group is left."""
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("victims", ["the first process", "all processes"])
def test_a_killed_annotation_goes_on(annotated, scenes, tmp_path, victims):
    annotated(out=tmp_path / "undisturbed", shard_size=1)
    out = tmp_path / "out"
    source = [scenes / "instances.json", "--images", scenes / "images"]
    options = ["--shard-size", "1", "--jobs", "2", "--quiet"]
    arguments = ["annotate", "sam-mini-w4a4", *source, "--out", out, *options]
    command = [sys.executable, "-c", RUN_CLI, *map(str, arguments)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    while len(list(out.glob("shard-*"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    if victims == "all processes":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    started = time.monotonic()
    while running(process.pid):  # workers that nobody listens to end by themselves
        assert time.monotonic() - started < 60
        time.sleep(0.05)
    there = {name: out.joinpath(name).stat().st_mtime_ns for name in files(out)}
    assert 2 < len(there) < 7
    summary = annotated(out=out, shard_size=1)
    assert summary.there == len(there) - 1  # besides the plan
    assert summary.shards == 6 - summary.there
    assert {name: out.joinpath(name).stat().st_mtime_ns for name in there} == there
    assert files(out) == files(tmp_path / "undisturbed")


@dataclass(frozen=True)
class Deadly:
    """A part that ends the process that reads it, as often as files can be made.

    With a `mistake` by an exception, as a fault of the program would; else by a signal.
    """

    part: object
    folder: object
    times: int
    mistake: bool = False

    @property
    def images(self):
        return self.part.images

    @property
    def key(self):
        return self.part.key

    def __iter__(self):
        for number in range(self.times):
            try:
                (self.folder / f"{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            if self.mistake:
                raise ZeroDivisionError("a mistake")
            os.kill(os.getpid(), signal.SIGKILL)
        return iter(self.part)


class Told(Silent):
    """Keeps warnings and counts steps."""

    def __init__(self):
        self.warnings, self.steps = [], 0

    def warn(self, message):
        self.warnings.append(message)

    def advance(self, steps=1, note=""):
        self.steps += steps


@pytest.fixture
def job_and_shards(scenes, tmp_path):
    """A job, and its shards of one image each."""
    from carsam.annotation.prompting.box_table import read_box_table
    from carsam.annotation.prompting.boxes import BoxPrompting
    from carsam.annotation.sources import find_source
    from carsam.annotation.storage import storage

    prompting = BoxPrompting(read_box_table(scenes / "instances.json", Silent()))
    source = find_source(str(scenes / "instances.json"), str(scenes / "images"))
    parts = source.parts(1, lambda item: True, Silent())[:3]
    job = Job(
        model="sam-mini-w4a4",
        engine="auto",
        device="auto",
        threads=1,
        pixels=None,
        prompting=prompting,
        output="coco",
        out=storage(str(tmp_path / "out")),
        info={},
    )
    return job, [Shard(number, part) for number, part in enumerate(parts)]


@pytest.mark.parametrize(("times", "mistake"), [(1, False), (2, False), (1, True)])
def test_a_shard_whose_worker_dies_is_begun_again_once(job_and_shards, tmp_path, times, mistake):
    job, (first, second, third) = job_and_shards
    (tmp_path / "kills").mkdir()
    second = Shard(second.number, Deadly(second.part, tmp_path / "kills", times, mistake))
    told = Told()
    workers = ProcessWorkers(job, 1)
    outcome = annotate_shards(workers, [first, second, third], 1, told, True)
    expected = {0, 1, 2} if times == 1 else {0, 2}
    assert {each.shard for each in outcome.done} == expected
    assert [each.shard.number for each in outcome.given_up] == ([] if times == 1 else [1])
    assert len(told.warnings) == times
    reason = "ZeroDivisionError: a mistake" if mistake else "its process was ended by SIGKILL"
    assert f"shard 1 died: {reason}" in told.warnings[0]
    assert told.steps == len(expected)
    assert len(rows(tmp_path / "out", "images")) == len(expected)


@pytest.mark.slow
def test_workers_that_die_in_a_row_end_the_annotation(job_and_shards, tmp_path):
    job, (first, *_) = job_and_shards
    (tmp_path / "kills").mkdir()
    deadly = Deadly(first.part, tmp_path / "kills", DEATHS)
    shards = [Shard(number, deadly) for number in range(DEATHS)]
    with pytest.raises(UserError, match=f"It is the {DEATHS}th in a row; nothing more is begun"):
        annotate_shards(ProcessWorkers(job, 2), shards, 2, Told(), True)


def test_a_model_that_cannot_be_loaded_is_said_once(scenes, tmp_path):
    with pytest.raises(UserError, match="no-such-model"):
        annotate(
            "no-such-model",
            str(scenes / "instances.json"),
            str(tmp_path / "out"),
            images=str(scenes / "images"),
            jobs=2,
        )

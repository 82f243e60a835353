"""Real Ray: the same shards, also when one of two workers is killed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from annotation_files import rows

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")


@pytest.mark.slow
def test_a_killed_worker_of_two_loses_nothing(annotated, tmp_path, monkeypatch):
    """One worker is killed while both are at work; its shard is begun again by a third."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # at Ray's 15, other tests would starve it
    annotated(out=tmp_path / "undisturbed", shard_size=1)
    out, killed = tmp_path / "out", []

    def kill_one():
        while not list(out.glob("shard-*")):
            time.sleep(0.02)
        while not (workers := actors()):
            time.sleep(0.02)
        os.kill(workers[0], signal.SIGKILL)
        killed.append(workers)

    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    with pytest.warns(UserWarning, match=r"The worker of shard \d died.*it is begun again"):
        summary = annotated(out=out, shard_size=1, jobs=2, workers="ray")
    assert len(killed[0]) == 2
    assert summary.shards == 6
    assert rows(out, "annotations") == rows(tmp_path / "undisturbed", "annotations")
    assert rows(out, "errors") == []
    assert not actors()


def actors():
    """The processes in which Ray annotates for this one: children of a child of it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                title = (entry / "cmdline").read_bytes()
                ours = parent(parent(int(entry.name))) == os.getpid()
            except OSError:  # it has ended meanwhile
                continue
            if ours and title.startswith(b"ray::_Actor"):
                found.append(int(entry.name))
    return found


def parent(process):
    """The number of the process that started another."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

import os
import signal
import threading
import time

import pytest

from carsam.formats import locks
from carsam.formats.locks import locked

BUSY = "held by HOLDER"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def refused(path) -> str:
    with pytest.raises(ValueError) as caught, locked(path, BUSY):
        pass
    return str(caught.value)


def hold_in_a_child(path, ready) -> int:
    """Return the number of a process that holds the lock until it is killed."""
    child = os.fork()
    if child == 0:
        with locked(path, BUSY):
            ready.touch()
            time.sleep(1000)
        os._exit(0)
    while not ready.exists():
        time.sleep(0.01)
    return child


def test_a_living_process_keeps_others_out_and_a_killed_one_does_not(path, tmp_path):
    child = hold_in_a_child(path, tmp_path / "ready")
    try:
        assert refused(path) == f"held by {child}"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert path.exists()  # the kill left it
    with locked(path, BUSY):
        pass
    assert not path.exists()


def test_the_thread_that_holds_it_may_ask_again_and_another_may_not(path):
    messages = []
    with locked(path, BUSY):
        with locked(path, BUSY):
            pass
        assert path.exists()
        thread = threading.Thread(target=lambda: messages.append(refused(path)))
        thread.start()
        thread.join()
    assert messages == [f"held by {os.getpid()}"]
    assert not path.exists()


def test_a_lock_is_given_back_after_an_error(path):
    with pytest.raises(KeyError), locked(path, BUSY):
        raise KeyError
    with locked(path, BUSY):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"Cannot write in .*file.*you may write to"),
        locked(tmp_path / "file" / "lock", BUSY),
    ):
        pass


def test_of_many_processes_one_at_a_time_has_it(path, tmp_path):
    """Each adds one to a number in a file; one that lost a race would lose a count."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            done = 0
            while done < 25:
                try:
                    with locked(path, BUSY):
                        counter.write_text(str(int(counter.read_text()) + 1))
                        done += 1
                except ValueError:
                    time.sleep(0.001)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert counter.read_text() == "100"


def test_where_there_are_no_locks_nobody_is_sure_that_a_file_was_left(path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    path.touch()
    assert locks.try_lock(path, sure=True) is None
    file = locks.try_lock(path)
    assert file is not None
    locks.release(file, path)

import os
import signal
import time
from queue import SimpleQueue

import psutil
import pytest

from engine.queue import child as child_module
from engine.queue.child import Child, Death, MemoryWatch, death
from engine.queue.messages import Ready, WarmUp
from engine.settings import Settings


@pytest.mark.parametrize(
    ("exit_code", "reason", "is_jobs_fault"),
    [
        (-signal.SIGSEGV, "segmentation fault (SIGSEGV)", True),
        (-signal.SIGABRT, "aborted (SIGABRT)", True),
        (-signal.SIGKILL, "killed (SIGKILL)", False),
        (-signal.SIGTERM, "terminated (SIGTERM)", False),
        (-999, "signal 999", True),
        (0, "exit code 0", True),
        (3, "exit code 3", True),
        (None, "unknown cause", False),
        (0xC0000005, "exit code 0xc0000005", True),
    ],
)
def test_death_is_told_and_blamed(exit_code, reason, is_jobs_fault):
    assert death(exit_code, out_of_memory=False) == Death(reason, is_jobs_fault)


def test_kill_for_want_of_memory_is_the_jobs_fault():
    told = death(-signal.SIGKILL, out_of_memory=True)
    assert told.is_jobs_fault
    assert "memory ran out" in told.reason
    other = death(-signal.SIGTERM, out_of_memory=True)
    assert not other.is_jobs_fault


def test_memory_watch_sees_only_what_is_new(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(child_module.time, "monotonic", lambda: now)
    file = tmp_path / "vmstat"
    file.write_text("nr_free_pages 5\noom_kill 7\n")
    watch = MemoryWatch(file)
    assert not watch.ran_out()
    file.write_text("nr_free_pages 5\noom_kill 8\n")
    assert watch.ran_out()
    now = 31.0
    watch.look()
    assert watch.ran_out()  # its victim may end only now
    now = 62.0
    watch.look()
    assert not watch.ran_out()


def test_memory_watch_knows_nothing_where_nothing_counts(tmp_path):
    assert not MemoryWatch(tmp_path / "none").ran_out()


def answer(connection, settings):
    connection.recv()
    connection.send(Ready())
    connection.recv()


def leave_a_program_behind(connection, settings):
    import subprocess
    import sys

    os.setpgrp()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    connection.send(sleeper.pid)
    os._exit(3)


@pytest.fixture
def start(tmp_path):
    started = []

    def start(worker):
        inbox = SimpleQueue()
        settings = Settings(root=tmp_path)
        child = Child(worker, settings, lambda _, message: inbox.put(message))
        started.append((child, inbox))
        return child, inbox

    yield start
    for child, _ in started:
        child.kill()


def test_messages_arrive_and_death_is_the_last(start):
    child, inbox = start(answer)
    child.send(WarmUp(None))
    assert inbox.get(timeout=10) == Ready()
    child.kill()
    assert inbox.get(timeout=10) == Death("killed (SIGKILL)", is_jobs_fault=False)
    child.send(WarmUp(None))  # to the dead: no error
    child.kill()


def test_what_the_worker_started_ends_with_it(start):
    _, inbox = start(leave_a_program_behind)
    sleeper = inbox.get(timeout=10)
    assert inbox.get(timeout=10) == Death("exit code 3", is_jobs_fault=True)
    end = time.monotonic() + 5
    while is_alive(sleeper) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_alive(sleeper)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

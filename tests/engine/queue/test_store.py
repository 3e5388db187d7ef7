import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.events import Started, Warned
from engine.queue import store as store_module
from engine.queue.job import JobStatus
from engine.queue.store import SqliteJobStore
from tests.engine.queue.store_contract import StoreContract, add, step, waiting

ROOT = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "queue.sqlite"


@pytest.fixture
def store(file):
    opened = SqliteJobStore(file)
    yield opened
    opened.close()


class TestSqliteJobStore(StoreContract):
    def test_everything_is_there_after_opening_again(self, store, file):
        done, running, _, _ = add(store, *"abcd")
        store.claim()
        store.record(Started(job=done, model="fake-model", attempt=1))
        store.finish(done, "/x")
        store.claim()
        store.record(step(running, 1))
        store.pause()
        jobs, version = store.list_jobs(), store.version()
        store.close()

        again = SqliteJobStore(file)
        assert again.list_jobs() == jobs
        assert again.is_paused()
        assert again.events(done) == [Started(job=done, model="fake-model", attempt=1)]
        assert again.events(running) == []
        assert version > 0
        assert again.warning == ""
        again.close()

    def test_acknowledged_jobs_survive_a_kill(self, file):
        program = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from engine.queue.store import SqliteJobStore\n"
            "from engine.request import GenerationRequest\n"
            "store = SqliteJobStore(Path(sys.argv[1]))\n"
            "for number in range(50):\n"
            "    request = GenerationRequest(model='m', prompt=str(number))\n"
            "    [job] = store.add([request])\n"
            "    os.write(1, f'{job.id}\\n'.encode())\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode < 0, done.stderr
        store = SqliteJobStore(file)
        assert [job.id for job in store.list_jobs()] == done.stdout.split()
        assert len(done.stdout.split()) == 50
        store.close()

    def test_commits_reach_the_disk_before_they_are_acknowledged(self, store):
        assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"

    def test_steps_cost_no_disk_write(self, store):
        [job] = add(store, "one")
        store.claim()
        before = store._db.total_changes
        began = time.perf_counter()
        for number in range(1000):
            store.record(step(job, number % 9))
        assert time.perf_counter() - began < 0.5
        assert store._db.total_changes == before

    def test_events_of_a_job_that_waits_are_kept_at_once(self, store, file):
        [job] = add(store, "one")
        store.record(Warned(job=job, message="hm"))
        other = SqliteJobStore(file)
        assert other.events(job) == [Warned(job=job, message="hm")]
        other.close()

    def test_history_is_bounded_and_forgets_the_oldest(self, store, monkeypatch):
        monkeypatch.setattr(store_module, "MOST_ENDED", 3)
        ids = add(store, *"abcdefg")
        for job in ids[:5]:
            store.claim()
            store.finish(job, "/x")
        assert [job.id for job in store.list_jobs(JobStatus.done)] == ids[4:1:-1]
        assert waiting(store) == ["f", "g"]

    def test_full_disk_is_told_and_nothing_is_added(self, store):
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(UserError, match=r"the queue can't be written: .*full"):
            add(store, *("x" * 10_000 for _ in range(10)))
        store._db.execute("PRAGMA max_page_count = 100000")
        assert store.list_jobs() == []
        assert len(add(store, "one")) == 1

    def test_adding_a_job_takes_milliseconds(self, store):
        add(store, *(f"job {number}" for number in range(500)))
        took = []
        for number in range(20):
            began = time.perf_counter()
            add(store, str(number))
            took.append(time.perf_counter() - began)
        assert sorted(took)[10] < 0.02

    def test_closed_store_refuses_in_words(self, file):
        store = SqliteJobStore(file)
        store.close()
        with pytest.raises(UserError, match="the queue can't be read"):
            store.list_jobs()


def test_claim_is_one_statement(store):
    add(store, "one")
    statements = []
    store._db.set_trace_callback(statements.append)
    store.claim()
    store._db.set_trace_callback(None)
    writes = [text for text in statements if not text.startswith(("SELECT", "BEGIN"))]
    assert [text.split()[0] for text in writes] == ["UPDATE", "COMMIT"]
    assert isinstance(store._db, sqlite3.Connection)

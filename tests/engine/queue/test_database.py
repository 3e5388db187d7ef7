import sqlite3
from contextlib import closing

import pytest

from engine.errors import UserError
from engine.queue.store import SqliteJobStore
from tests.engine.queue.store_contract import add, waiting


@pytest.fixture
def file(tmp_path):
    return tmp_path / "queue.sqlite"


def kept_aside(file):
    return sorted(file.parent.glob("queue.bad-*.sqlite"))


def test_file_that_is_no_database_is_kept_aside(file):
    file.write_bytes(b"this is a shopping list\n" * 100)
    store = SqliteJobStore(file)
    [bad] = kept_aside(file)
    assert bad.read_bytes().startswith(b"this is a shopping list")
    assert "was damaged" in store.warning
    assert bad.name in store.warning
    assert "no job could be read" in store.warning
    add(store, "one")
    assert waiting(store) == ["one"]
    store.close()
    again = SqliteJobStore(file)
    assert (waiting(again), again.warning) == (["one"], "")
    again.close()


def test_readable_jobs_of_a_damaged_file_are_saved(file):
    store = SqliteJobStore(file)
    kept = [store.get(job) for job in add(store, *(f"job {n}" for n in range(200)))]
    store.close()
    with closing(sqlite3.connect(file)) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        root = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'jobs_order'"
        ).fetchone()[0]
    content = bytearray(file.read_bytes())
    start = (root - 1) * size  # an index: the table itself stays whole
    content[start : start + size] = b"\xff" * size
    file.write_bytes(content)

    again = SqliteJobStore(file)
    assert "200 jobs could be read" in again.warning
    assert again.list_jobs() == kept
    assert len(kept_aside(file)) == 1
    again.close()


def test_row_that_makes_no_sense_costs_only_itself(file):
    store = SqliteJobStore(file)
    first, _ = add(store, "one", "two")
    store.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("UPDATE jobs SET request = '{\"mod' WHERE id = ?", (first,))
    again = SqliteJobStore(file)
    assert waiting(again) == ["two"]
    assert f"job {first} can't be read" in again.warning
    assert "1 job could be read" in again.warning
    again.close()


def test_second_damage_overwrites_no_earlier_file(file):
    for content in (b"first" * 200, b"second" * 200):
        file.write_bytes(content)
        SqliteJobStore(file).close()
    contents = {bad.read_bytes() for bad in kept_aside(file)}
    assert contents == {b"first" * 200, b"second" * 200}


def test_cut_file_starts_anew(file):
    store = SqliteJobStore(file)
    add(store, *(f"job {number}" for number in range(200)))
    store.close()
    file.write_bytes(file.read_bytes()[:5000])
    again = SqliteJobStore(file)
    assert "was damaged" in again.warning
    assert len(kept_aside(file)) == 1
    add(again, "new")
    assert waiting(again)[-1] == "new"
    again.close()


def test_empty_file_is_a_new_queue(file):
    file.touch()
    store = SqliteJobStore(file)
    assert (store.list_jobs(), store.warning) == ([], "")
    store.close()


def test_folder_that_refuses_is_told(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"can't use the queue in .*taken"):
        SqliteJobStore(tmp_path / "taken" / "queue.sqlite")
    with pytest.raises(UserError, match="unable to open database file"):
        SqliteJobStore(tmp_path)
    assert kept_aside(tmp_path / "queue.sqlite") == []

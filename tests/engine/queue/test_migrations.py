import sqlite3
from contextlib import closing

import pytest

from engine.errors import UserError
from engine.queue import migrations
from engine.queue.store import SqliteJobStore
from tests.engine.queue.store_contract import add, waiting


@pytest.fixture
def file(tmp_path):
    return tmp_path / "queue.sqlite"


def test_each_step_is_applied_once(file):
    for _ in range(2):
        SqliteJobStore(file).close()
    with closing(sqlite3.connect(file)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM migrations")]
    assert names == [step.__name__ for step in migrations.MIGRATIONS]
    assert names == sorted(names)


def test_queue_of_an_older_version_gets_the_new_step(file, monkeypatch):
    store = SqliteJobStore(file)
    add(store, "one")
    store.close()

    def m999_note(db):
        db.execute("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")

    steps = (*migrations.MIGRATIONS, m999_note)
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    again = SqliteJobStore(file)
    assert waiting(again) == ["one"]
    assert again._db.execute("SELECT note FROM jobs").fetchone()[0] == "none"
    again.close()


def test_step_that_fails_leaves_the_file_as_it_was(file, monkeypatch):
    store = SqliteJobStore(file)
    add(store, "one")
    store.close()

    def m999_half(db):
        db.execute("DELETE FROM jobs")
        db.execute("SELECT nonsense FROM nowhere")

    steps = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*steps, m999_half))
    with pytest.raises(UserError, match="nowhere"):
        SqliteJobStore(file)
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    again = SqliteJobStore(file)
    assert waiting(again) == ["one"]
    again.close()


def test_queue_of_a_newer_version_is_refused_and_untouched(file):
    SqliteJobStore(file).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("INSERT INTO migrations VALUES ('m900_future', 'then')")
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"newer version.*m900_future.*Update the app"):
        SqliteJobStore(file)
    assert file.read_bytes() == before
    assert not list(file.parent.glob("queue.bad-*"))

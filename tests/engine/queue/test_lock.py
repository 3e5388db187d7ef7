import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import AlreadyRunning, UserError
from engine.queue import lock

ROOT = Path(__file__).parents[3]
HOLDER = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from engine.queue import lock\n"
    "with lock.hold(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_copy_is_refused_with_the_pid_of_the_first(tmp_path, holder):
    for _ in range(2):  # asking must not disturb the holder
        with pytest.raises(AlreadyRunning) as refused, lock.hold(tmp_path):
            pass
        assert f"already used by another copy of the app (pid {holder.pid})" in str(
            refused.value
        )
        assert str(tmp_path) in str(refused.value)


def test_folder_of_a_killed_copy_is_free(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock.hold(tmp_path), pytest.raises(AlreadyRunning, match=str(os.getpid())):
        lock.hold(tmp_path).__enter__()


def test_folder_is_free_again_after_the_block(tmp_path):
    for _ in range(2):
        with lock.hold(tmp_path / "new"):
            assert (tmp_path / "new" / "queue.sqlite.pid").exists()
    assert not (tmp_path / "new" / "queue.sqlite.pid").exists()


def test_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"can't use .*file for data"):
        lock.hold(tmp_path / "file").__enter__()


def test_a_disk_without_room_for_the_pid_is_told_and_let_go(tmp_path, monkeypatch):
    def refuse(*_args, **_more):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("pathlib.Path.write_text", refuse)
        with pytest.raises(UserError, match="No space left"), lock.hold(tmp_path):
            pytest.fail("held")
    with lock.hold(tmp_path):
        pass

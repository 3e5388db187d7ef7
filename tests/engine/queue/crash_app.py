"""Works off the queue of a data folder, to be killed by ``test_crashes``:
``python -m tests.engine.queue.crash_app ROOT``."""

import sys
from pathlib import Path

from engine.errors import UserError
from engine.queue import lock, supervisor
from engine.queue.store import SqliteJobStore
from engine.queue.supervisor import Supervisor
from engine.settings import Settings
from tests.fakes import fake_worker_main, register_fake_family


def main(root: Path) -> int:
    register_fake_family()
    supervisor.RESTART_SECONDS = (0.0, 0.1)
    settings = Settings(root=root, gpu="cpu")
    try:
        with lock.hold(root):
            store = SqliteJobStore(root / "queue.sqlite")
            boss = Supervisor(store, settings, worker=fake_worker_main)
            boss.start()
            boss.wait_until_empty()
            boss.stop()
            store.close()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

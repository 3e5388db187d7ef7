"""Starts the page and the worker, and ends both in order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from app.options import Options
from app.ui.credentials import Credentials, choose_credentials
from engine.catalogue import all_models
from engine.errors import MissingWeights, UnreadableFile, UserError
from engine.family import ModelVariant
from engine.loading.download import may_download
from engine.loading.weights import find_weights
from engine.loading.weights import missing_weights as missing_weights_of
from engine.queue import lock
from engine.queue.store import SqliteJobStore
from engine.queue.supervisor import Supervisor
from engine.queue.worker import main as worker_main
from engine.settings import Settings

LARGEST_UPLOAD = "2gb"


def serve(options: Options, worker: Callable[..., Any] | None = None) -> int:
    """Serve the page until Ctrl-C or SIGTERM; the running job then goes back to the
    queue. Returns the exit code.

    Raises ``UserError`` when the port is taken or another copy runs on this root.
    """
    asked_to_end: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: asked_to_end.put(number))
    settings = options.settings
    with lock.hold(settings.root):
        port = choose_port(settings.server_name, settings.server_port)
        store = SqliteJobStore(settings.root / "queue.sqlite")
        if store.warning:
            _say(store.warning)
        supervisor = Supervisor(
            store,
            settings,
            worker=worker or worker_main,
            outputs=settings.outputs,
            warm_model=first_ready_model(settings),
        )
        try:
            page = _launch(options, port, store, supervisor)
            supervisor.start()
            _wait_for(asked_to_end)
            _say("Ending. What was running goes on at the next start.")
            page.close(verbose=False)
        finally:
            supervisor.stop()
            store.close()
    return 0


def _wait_for(asked_to_end: SimpleQueue[int]) -> None:
    # A signal that comes just before a wait begins doesn't interrupt it, so no wait
    # may be endless. The handler needs a queue that it can't find locked.
    while True:
        with contextlib.suppress(Empty):
            asked_to_end.get(timeout=0.5)
            return


def choose_port(server_name: str, port: int) -> int:
    """``port`` if it is free; any free one for 0.

    Raises ``UserError`` that says what to do when it can't be had.
    """
    with socket.socket() as probe:
        # As the server does it, or a port just left would seem taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server_name, port))
        except socket.gaierror as error:
            raise UserError(
                f"can't serve on {server_name}: {error.strerror}. Name one of this "
                "machine's IPv4 addresses with --server-name"
            ) from error
        except OSError as error:
            raise UserError(
                f"can't serve on {server_name}:{port}: {error.strerror}. Choose "
                "another port with --server-port"
            ) from error
        return int(probe.getsockname()[1])


def missing_weights(variant: ModelVariant, settings: Settings) -> str | None:
    """Why ``variant`` can't run yet; ``None`` when its files are here."""
    try:
        wanted = missing_weights_of(variant, settings)
        if wanted and may_download(settings):
            size = sum(file.gigabytes for file in wanted)
            return f"its files will be downloaded with the first video ({size:.0f} GB)"
        find_weights(variant, settings)
    except (MissingWeights, UnreadableFile) as error:
        return str(error)
    return None


def first_ready_model(settings: Settings) -> str | None:
    """The first model of the list whose files are here."""
    for model, variant in all_models(settings).items():
        if missing_weights(variant, settings) is None:
            return model
    return None


def _launch(
    options: Options, port: int, store: SqliteJobStore, supervisor: Supervisor
) -> Any:
    """The running page, its address printed."""
    settings = options.settings
    uploads = settings.root / "cache" / "uploads"
    for folder in (settings.outputs, uploads):
        folder.mkdir(parents=True, exist_ok=True)
    # Read by gradio when it is imported: uploads stay with the user's other data.
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    from app.ui.gallery import Gallery
    from app.ui.look import HEAD, STYLES, theme
    from app.ui.page import build_page
    from app.ui.services import Services

    page = build_page(
        Services(
            settings=settings,
            store=store,
            gallery=Gallery(settings.outputs),
            downloads=supervisor.downloads,
            uploads=uploads,
            worker_status=supervisor.status,
            missing=lambda variant: missing_weights(variant, settings),
        )
    )
    credentials = choose_credentials(options)
    _, _, shared = page.launch(
        server_name=settings.server_name,
        server_port=port,
        share=options.share,
        inbrowser=options.open_browser,
        auth=credentials.match if credentials else None,
        allowed_paths=[str(settings.outputs)],
        max_file_size=LARGEST_UPLOAD,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css_paths=STYLES,
        head=HEAD,
        quiet=True,
        prevent_thread_lock=True,
    )
    _announce(settings, port, credentials, shared)
    return page


def _announce(
    settings: Settings, port: int, credentials: Credentials | None, shared: str | None
) -> None:
    if settings.server_name == "0.0.0.0":
        _say(f"Open http://127.0.0.1:{port}, or this machine's address from others")
    else:
        _say(f"Open http://{settings.server_name}:{port}")
    if shared:
        _say(f"Shared at {shared}")
    if credentials is not None and credentials.made_up:
        _say(f"Name: {credentials.user}  Password: {credentials.password}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

"""Fetching a model's files from the hub into its cache, where other programs find them.

The hub's own client (2.4) drops what has arrived when a download stops and compares no
hashes, so the bytes are fetched here: a file lies beside its place until it is whole
and its hash is right, and goes on from where it stopped.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from engine.errors import Cancelled, MissingWeights
from engine.family import ModelVariant, WeightFile
from engine.licences import require_licence
from engine.loading import hub
from engine.loading.hub import RemoteFile
from engine.loading.weights import find_weights, missing_weights
from engine.progress import Progress
from engine.settings import Settings

MIB = 1 << 20

SPARE_BYTES = 512 * MIB
"""Left free on the disk."""

MOST_FAILURES = 5
"""Interruptions in a row, without a byte in between, before a transfer fails."""

POLL_SECONDS = 0.25
"""Between two looks at the transfer."""

PARTIAL_CONTENT = 206

STALLED_SECONDS = 20.0
"""Without a byte, a connection is given up and made again."""


def get_weights(
    variant: ModelVariant,
    settings: Settings,
    progress: Progress,
    chosen: Mapping[str, WeightFile],
) -> dict[str, Path]:
    """Where each component of ``variant`` lies; what is missing is downloaded first,
    in the precisions in ``chosen``, if the settings allow it.

    Raises ``LicenceNotAccepted``, ``MissingWeights``, ``UnreadableFile`` or
    ``Cancelled``.
    """
    require_licence(variant, settings)
    wanted = missing_weights(variant, settings, chosen)
    if wanted and settings.download and not hub.is_offline():
        download(wanted, f"downloading {variant.title}", progress)
    return find_weights(variant, settings, chosen)


def download(wanted: Sequence[WeightFile], title: str, progress: Progress) -> None:
    """Fetch ``wanted`` into the hub's cache.

    Raises ``MissingWeights`` that says what to do, or ``Cancelled`` within a second;
    what has arrived is kept for the next time.
    """
    progress.begin("download", title)
    transfer = _Transfer(wanted)
    shown = -1
    executor = ThreadPoolExecutor(1, "download")
    running = executor.submit(transfer.run)
    try:
        while wait([running], timeout=POLL_SECONDS).not_done:
            progress.check()
            done = transfer.done // MIB
            if transfer.total and done != shown:
                shown = done
                progress.step(done, -(-transfer.total // MIB))
    finally:
        transfer.stop.set()
        # Not waited for: a stalled connection ends late, but writes nothing more.
        executor.shutdown(wait=False)
    running.result()


class _Transfer:
    """Fetches files one by one, in a thread of its own."""

    def __init__(self, wanted: Sequence[WeightFile]) -> None:
        self._wanted = wanted
        self.stop = threading.Event()
        self.total = 0
        """Bytes that have to come; 0 until it is known."""
        self.done = 0

    def run(self) -> None:
        files = []
        for wanted in self._wanted:
            self._count(0)
            files += hub.look_up(wanted)
        total = sum(map(_bytes_to_come, files))
        check_space(total, hub.cache_folder())
        self.total = total
        for file in files:
            if not file.blob.exists():
                fetch(file, self._count, self.stop)
            self._count(0)
            hub.add_to_cache(file)

    def _count(self, size: int) -> None:
        self.done = max(0, self.done + size)
        if self.stop.is_set():
            raise Cancelled("the job doesn't want the files any more")


def check_space(size: int, folder: Path) -> None:
    """Raises ``MissingWeights`` unless ``size`` bytes and some more fit into the disk
    of ``folder``."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size and size + SPARE_BYTES > free:
        raise MissingWeights(
            f"{size / 1e9:.1f} GB have to be downloaded, and the disk of {folder} has "
            f"{free / 1e9:.1f} GB free. Free some space, or set HF_HOME to a folder "
            "on another disk, then retry"
        )


def fetch(
    file: RemoteFile, count: Callable[[int], None], stop: threading.Event
) -> None:
    """Bring the content of ``file`` to its place in the cache.

    ``count`` is told of the bytes that came, and of those that were thrown away as a
    negative number; it may raise to stop. Raises ``MissingWeights``.
    """
    part = _part_of(file)
    failures = 0
    with hub.errors_told(file.repository, file.path):
        part.parent.mkdir(parents=True, exist_ok=True)
        while (size := _size_of(part)) != file.size or not part.exists():
            if size > file.size:
                part.unlink()
                continue
            try:
                _append(file, part, size, count)
            except _network_errors():
                came = _size_of(part) > size
                failures = 0 if came else failures + 1
                if failures > MOST_FAILURES:
                    raise
                stop.wait(min(2.0**failures / 2, 10.0))
                count(0)
        if _digest(part, file, count) != file.digest:
            part.unlink()
            raise MissingWeights(
                f"{file.path} of {file.repository} arrived damaged (its hash is "
                "wrong) and was thrown away. Retry; if that doesn't help, a proxy "
                "or a mirror may be at fault"
            )
        part.replace(file.blob)


def _append(
    file: RemoteFile, part: Path, start: int, count: Callable[[int], None]
) -> None:
    """Ask for what is missing after ``start`` and write it as it comes."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils._headers import build_hf_headers

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with get_session().stream(
        "GET", file.url, headers=headers, timeout=STALLED_SECONDS
    ) as response:
        hf_raise_for_status(response)
        whole = start and response.status_code != PARTIAL_CONTENT
        with part.open("wb" if whole else "ab") as out:
            if whole:  # the server can't go on in the middle
                count(-start)
            for chunk in response.iter_raw():
                count(len(chunk))
                out.write(chunk)


def _network_errors() -> tuple[type[Exception], ...]:
    """Those after which it is worth to go on."""
    import httpx2

    return (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


def _digest(part: Path, file: RemoteFile, count: Callable[[int], None]) -> str:
    """The hash of ``part`` that ``file`` is known by: sha256, or git's sha1."""
    if len(file.digest) == len(hashlib.sha256().hexdigest()):
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with part.open("rb") as content:
        while block := content.read(MIB):
            digest.update(block)
            count(0)
    return digest.hexdigest()


def _bytes_to_come(file: RemoteFile) -> int:
    return 0 if file.blob.exists() else max(0, file.size - _size_of(_part_of(file)))


def _part_of(file: RemoteFile) -> Path:
    return file.blob.with_name(f"{file.digest}.wgp.incomplete")


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0

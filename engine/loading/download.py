"""Fetching a model's files: those on the hub into its cache, where other programs find
them, or into the data folder; those at addresses of the web into the data folder.

The hub's own client (2.4) drops what has arrived when a download stops and compares no
hashes, so the bytes are fetched here: a file lies beside its place until it is whole
and its hash is right, and goes on from where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import Cancelled, MissingWeights
from engine.family import ModelVariant, WeightFile
from engine.licences import require_licence
from engine.loading import address, hub
from engine.loading.hub import RemoteFile
from engine.loading.notes import note_digest
from engine.loading.pace import Pace
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
    transfer = plan_transfer(variant, settings, chosen)
    if transfer is not None:
        follow(transfer, f"downloading {variant.title}", progress)
    return find_weights(variant, settings, chosen)


def plan_transfer(
    variant: ModelVariant, settings: Settings, chosen: Mapping[str, WeightFile]
) -> Transfer | None:
    """What brings the missing files of ``variant``; ``None`` when none is missing, or
    none may be fetched. Every download begins here, so this is also where it is
    decided whether it may.

    Raises ``LicenceNotAccepted`` or ``UnreadableFile``.
    """
    require_licence(variant, settings)
    wanted = missing_weights(variant, settings, chosen)
    if not wanted or not may_download(settings):
        return None
    return Transfer(wanted, goal_of(variant, settings))


def may_download(settings: Settings) -> bool:
    """Whether the user lets the app fetch files at all."""
    return settings.download and not settings.offline and not hub.is_offline()


@dataclass(frozen=True)
class Goal:
    """Where files go, and how fast they may come."""

    ckpts: Path = Path("ckpts")
    """Of the data folder."""
    into_cache: bool = True
    """Whether what is on the hub goes into the hub's cache."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Repository → its folder in ``ckpts``, where that isn't called after it."""
    most_per_second: float = 0.0
    """Bytes; 0 is no limit."""

    def is_cached(self, file: RemoteFile) -> bool:
        return self.into_cache and file.is_on_hub

    def place(self, file: RemoteFile) -> Path:
        if self.is_cached(file):
            return file.blob
        return (
            self.ckpts
            / self.folders.get(file.repository, file.repository)
            / (file.path)
        )

    def disk(self, file: RemoteFile) -> Path:
        """A folder on the disk that must have room."""
        return hub.cache_folder() if self.is_cached(file) else self.ckpts


def goal_of(variant: ModelVariant, settings: Settings) -> Goal:
    """As the settings want it."""
    folder = variant.base_folder or variant.folder
    return Goal(
        ckpts=settings.root / "ckpts",
        into_cache=settings.download_to == "cache",
        folders={variant.hub: folder} if variant.hub else {},
        most_per_second=settings.bandwidth * MIB,
    )


def follow(transfer: Transfer, title: str, progress: Progress) -> None:
    """Let ``transfer`` run to its end.

    Raises ``MissingWeights`` that says what to do, or ``Cancelled`` within a second;
    what has arrived is kept for the next time.
    """
    progress.begin("download", title)
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


class Transfer:
    """Fetches files one by one."""

    def __init__(self, wanted: Sequence[WeightFile], goal: Goal | None = None) -> None:
        self._wanted = wanted
        self._goal = goal or Goal()
        self.stop = threading.Event()
        self.total = 0
        """Bytes that have to come; 0 until it is known."""
        self.done = 0
        self.pace = Pace()

    def run(self) -> None:
        """Raises ``MissingWeights``, or ``Cancelled`` soon after ``stop`` is set."""
        files = []
        for wanted in self._wanted:
            self._count(0)
            files += [address.look_up(wanted)] if wanted.url else hub.look_up(wanted)
        sizes: Counter[Path] = Counter()
        for file in files:
            if not self._goal.place(file).exists():
                part = part_of(file, self._goal.place(file))
                sizes[self._goal.disk(file)] += file.size - _size_of(part)
        for disk, size in sizes.items():
            check_space(size, disk)
        self.total = max(sizes.total(), 0)
        for file in files:
            place = self._goal.place(file)
            if not place.exists():
                digest = fetch(file, place, self._count, self.stop)
                if not self._goal.is_cached(file):
                    note_digest(file, place, digest)
            self._count(0)
            if self._goal.is_cached(file):
                hub.add_to_cache(file)

    def _count(self, size: int) -> None:
        if self.stop.is_set():
            raise Cancelled("nobody wants the files any more")
        self.done = max(0, self.done + size)
        if size > 0:
            self.pace.came(size)
            self._slow_down(size)

    def _slow_down(self, size: int) -> None:
        """Hold the next read back until this one is within the limit."""
        most = self._goal.most_per_second
        if most > 0 and self.stop.wait(self.pace.due(size / most)):
            raise Cancelled("nobody wants the files any more")


def check_space(size: int, folder: Path) -> None:
    """Raises ``MissingWeights`` unless ``size`` bytes and some more fit into the disk
    of ``folder``."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > 0 and size + SPARE_BYTES > free:
        raise MissingWeights(
            f"{size / 1e9:.1f} GB have to be downloaded, and the disk of {folder} has "
            f"{free / 1e9:.1f} GB free. Free some space, or set HF_HOME to a folder "
            "on another disk, then retry"
        )


def fetch(
    file: RemoteFile,
    place: Path,
    count: Callable[[int], None],
    stop: threading.Event,
) -> str:
    """Bring the content of ``file`` to ``place``; returns its hash.

    ``count`` is told of the bytes that came, and of those that were thrown away as a
    negative number; it may raise to stop. Raises ``MissingWeights``.
    """
    part = part_of(file, place)
    with _errors_told(file, place.parent):
        part.parent.mkdir(parents=True, exist_ok=True)
        with _alone_with(part, count):
            if not place.exists():  # no other program was faster
                _complete(file, part, count, stop)
                _check(part, file, count)
                part.replace(place)
            return file.digest or _digest(place, file, count)


def _errors_told(file: RemoteFile, folder: Path) -> AbstractContextManager[None]:
    if file.is_on_hub:
        return hub.errors_told(file.repository, file.path, folder)
    return address.errors_told(file.url, folder)


def _check(part: Path, file: RemoteFile, count: Callable[[int], None]) -> None:
    """Throws ``part`` away, and raises ``MissingWeights``, unless it is what ``file``
    should be."""
    fault = ""
    if file.digest and _digest(part, file, count) != file.digest:
        fault = "its hash is wrong"
    elif not file.is_on_hub:
        fault = address.content_fault(part)
    if fault:
        part.unlink()
        raise MissingWeights(
            f"{file.name} arrived damaged ({fault}) and was thrown away. Retry; if "
            "that doesn't help, a proxy or a mirror may be at fault"
        )


@contextmanager
def _alone_with(part: Path, count: Callable[[int], None]) -> Iterator[None]:
    """Two that write into one file, as two copies of the app, would spoil it."""
    lock = FileLock(part.with_name(f"{part.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=POLL_SECONDS)
            break
        except Timeout:
            count(0)
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()


def _complete(
    file: RemoteFile, part: Path, count: Callable[[int], None], stop: threading.Event
) -> None:
    """Fetch until ``part`` is as long as the file; go on after interruptions."""
    failures = 0
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


def _append(
    file: RemoteFile, part: Path, start: int, count: Callable[[int], None]
) -> None:
    """Ask for what is missing after ``start`` and write it as it comes."""
    opened = hub.opened if file.is_on_hub else address.opened
    with opened(file.url, start) as response:
        whole = start and response.status_code != PARTIAL_CONTENT
        with part.open("wb" if whole else "ab") as out:
            if whole:  # the server can't go on in the middle
                count(-start)
            for chunk in response.iter_raw():
                if out.tell() + len(chunk) > file.size:
                    raise MissingWeights(
                        f"{file.name} is larger than its server said. Retry; if that "
                        "doesn't help, the server is at fault"
                    )
                count(len(chunk))
                out.write(chunk)


def _network_errors() -> tuple[type[Exception], ...]:
    """Those after which it is worth to go on."""
    import httpx2

    return (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)


def _digest(part: Path, file: RemoteFile, count: Callable[[int], None]) -> str:
    """The hash of ``part`` that ``file`` is known by: sha256, or git's sha1."""
    digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    if len(file.digest) != len(digest.hexdigest()):
        digest = hashlib.sha256()
    with part.open("rb") as content:
        while block := content.read(MIB):
            digest.update(block)
            count(0)
    return digest.hexdigest()


def part_of(file: RemoteFile, place: Path) -> Path:
    """Where what has come of ``file`` waits until it is whole."""
    content = f"{file.url} {file.size} {file.commit}".encode()
    name = file.digest or hashlib.sha256(content).hexdigest()
    return place.with_name(f"{name}.wgp.incomplete")


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0

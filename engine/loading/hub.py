"""What is asked of the Hugging Face hub, through its own client; what its cache holds;
and its errors in sentences. Imports the client late: it takes a while."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.errors import MissingWeights
from engine.family import WeightFile
from engine.loading.stored import WEIGHTS_SUFFIX

if TYPE_CHECKING:
    import httpx2

SUFFIXES = {".json", ".safetensors", ".model", ".txt", ".jinja"}
"""Of the files that a folder in diffusers layout is loaded from."""

INDEX = "model_index.json"
"""Names the components of a repository."""

STALLED_SECONDS = 20.0
"""Without a byte, a connection is given up and made again."""

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub or elsewhere, as it is now."""

    repository: str
    """On the hub; empty for a file that is elsewhere."""
    path: str
    url: str
    size: int
    """In bytes."""
    digest: str
    """The sha256 of a large file, git's sha1 of a small one; names it in the cache.
    Empty when nobody tells it of a file that isn't on the hub."""
    commit: str = ""
    """The state of the repository that it belongs to."""

    @property
    def is_on_hub(self) -> bool:
        return bool(self.repository)

    @property
    def name(self) -> str:
        """Whose and which file it is, in words."""
        return f"{self.path} of {self.repository}" if self.is_on_hub else self.path

    @property
    def blob(self) -> Path:
        """Where the hub's cache keeps its content."""
        return repository_folder(self.repository) / "blobs" / self.digest


def is_offline() -> bool:
    """Whether the user has forbidden the hub's client to connect."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def cache_folder() -> Path:
    """The hub's cache, which all programs of a user share."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repository: str) -> Path:
    """The repository's folder in the hub's cache."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def cached_file(repository: str, path: str) -> Path | None:
    """The file in the hub's cache. Asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, path)
    return Path(found) if isinstance(found, str) else None


def cached_snapshot(repository: str) -> Path | None:
    """The folder of the repository's newest downloaded state in the hub's cache."""
    folder = repository_folder(repository)
    ref = folder / "refs" / "main"
    if not ref.is_file():
        return None
    snapshot = folder / "snapshots" / ref.read_text(encoding="utf-8").strip()
    return snapshot if snapshot.is_dir() else None


def look_up(wanted: WeightFile) -> list[RemoteFile]:
    """The files of ``wanted`` on the hub; of a folder those that it is loaded from, of
    a whole repository (an empty path) those of the components in its index, if it has
    one, less the weights that are to come from elsewhere.

    Raises ``MissingWeights`` that says what the hub answered.
    """
    if not wanted.is_folder:
        return [_look_up_file(wanted.repository, wanted.path, wanted.sha256)]
    paths = [
        path
        for path in _list_folder(wanted.repository, wanted.path)
        if WEIGHTS_SUFFIX not in path or path.split("/")[0] not in wanted.without
    ]
    return [_look_up_file(wanted.repository, path) for path in paths]


@contextmanager
def opened(url: str, start: int) -> Iterator[httpx2.Response]:
    """The hub's answer for the file at ``url`` from the byte ``start`` on."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils._headers import build_hf_headers

    headers = {**build_hf_headers(), **asking_for(start)}
    with get_session().stream(
        "GET", url, headers=headers, timeout=STALLED_SECONDS
    ) as response:
        hf_raise_for_status(response)
        yield response


def asking_for(start: int) -> dict[str, str]:
    """The headers that ask for a file's bytes from ``start`` on."""
    headers = {"Accept-Encoding": "identity"}
    return {**headers, "Range": f"bytes={start}-"} if start else headers


def add_to_cache(file: RemoteFile) -> None:
    """Let the hub's client enter ``file``, whose content is in place, into its cache;
    it fetches what isn't."""
    from huggingface_hub import hf_hub_download

    with errors_told(file.repository, file.path):
        hf_hub_download(file.repository, file.path)


@contextmanager
def errors_told(
    repository: str, path: str, folder: Path | None = None
) -> Iterator[None]:
    """Turns what goes wrong with the hub, or with the disk of ``folder`` (the hub's
    cache unless given), into ``MissingWeights``."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    what = f"{path} of {repository}" if path else repository
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise MissingWeights(
            f"{what} isn't on this machine and HF_HUB_OFFLINE forbids to download it"
        ) from error
    except GatedRepoError as error:
        raise MissingWeights(
            f"{repository} wants its terms accepted before {path or 'it'} can be "
            f"downloaded. Accept them on {constants.ENDPOINT}/{repository}, sign in "
            "with `hf auth login`, then retry"
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingWeights(
            f"the hub knows no repository {repository}, or shows it only to some. If "
            "you have access, sign in with `hf auth login`, then retry"
        ) from error
    except LocalEntryNotFoundError as error:
        raise _no_connection(what, error.__cause__ or error) from error
    except EntryNotFoundError as error:
        raise MissingWeights(
            f"{repository} has no {path} any more. Update the app, or get the file "
            "elsewhere and put it into ckpts"
        ) from error
    except HfHubHTTPError as error:
        raise _refused(what, error.response.status_code) from error
    except httpx2.HTTPError as error:
        raise _no_connection(what, error) from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise no_space(what, folder or cache_folder()) from error


def no_space(what: str, folder: Path) -> MissingWeights:
    return MissingWeights(
        f"the disk of {folder} is full: {what} couldn't be downloaded. Free some "
        "space, or set HF_HOME to a folder on another disk, then retry"
    )


def _no_connection(what: str, error: BaseException) -> MissingWeights:
    from huggingface_hub import constants

    return MissingWeights(
        f"{what} couldn't be downloaded from {constants.ENDPOINT}: "
        f"{str(error).strip() or type(error).__name__}. Check the connection, then "
        "retry: what has arrived is kept"
    )


def _refused(what: str, status: int) -> MissingWeights:
    if status in (401, 403):
        return MissingWeights(
            f"the hub refuses {what} ({status}). Sign in with `hf auth login` to an "
            "account that has access, then retry"
        )
    return MissingWeights(f"the hub answered {status} for {what}. Retry later")


def _list_folder(repository: str, folder: str) -> list[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with errors_told(repository, folder):
        tree = HfApi().list_repo_tree(repository, folder or None, recursive=True)
        paths = [entry.path for entry in tree if isinstance(entry, RepoFile)]
    paths = [path for path in paths if _is_loaded(PurePosixPath(path))]
    if INDEX in paths and not folder:
        indexed = _indexed(repository, paths)
        paths = [path for path in paths if path in indexed]
    if not paths:
        raise MissingWeights(f"{repository} has nothing to load in {folder or 'it'}")
    return paths


def _is_loaded(path: PurePosixPath) -> bool:
    """Not documents, nor the same weights in another format or precision."""
    variant = {".fp16", ".bf16", ".fp32", ".non_ema"} & set(path.suffixes)
    return path.suffix in SUFFIXES and not variant


def _indexed(repository: str, paths: list[str]) -> set[str]:
    """Which of ``paths`` belong to the components in the repository's index."""
    import json

    from huggingface_hub import hf_hub_download

    with errors_told(repository, INDEX):
        file = Path(hf_hub_download(repository, INDEX))
    index = json.loads(file.read_text(encoding="utf-8"))
    components = {
        key for key, kind in index.items() if isinstance(kind, list) and kind[1]
    }
    return {
        path
        for path in paths
        if path == INDEX or PurePosixPath(path).parts[0] in components
    }


def _look_up_file(repository: str, path: str, sha256: str | None = None) -> RemoteFile:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/") or "\\" in path:
        raise MissingWeights(f"{repository} has a file that leads elsewhere: {path}")
    url = hf_hub_url(repository, path)
    with errors_told(repository, path):
        found = get_hf_file_metadata(url)
    if sha256 is not None and found.etag != sha256:
        raise MissingWeights(
            f"{path} of {repository} isn't the file that this version of the app "
            f"knows: its sha256 is {found.etag} instead of {sha256}. Update the app"
        )
    return RemoteFile(
        repository,
        path,
        url,
        found.size or 0,
        found.etag or "",
        found.commit_hash or "",
    )

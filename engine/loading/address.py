"""Files at addresses of the web, beside the hub: which may be fetched, and what they
are before all of them is here. Imports the client late: it takes a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from engine.errors import MissingWeights, UnreadableFile
from engine.family import WeightFile
from engine.loading.gguf_header import MAGIC
from engine.loading.header import START_BYTES, check_start
from engine.loading.hub import (
    NO_SPACE,
    STALLED_SECONDS,
    RemoteFile,
    asking_for,
    no_space,
)
from engine.loading.stored import SUFFIXES, read_stored

if TYPE_CHECKING:
    import httpx2

THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
"""Whose addresses need no encryption."""

MOST_REDIRECTS = 10


def address_fault(url: str) -> str:
    """Why no file may be fetched from ``url``, in words; empty when one may."""
    try:
        parts = urlsplit(url)
        host, named = parts.hostname, parts.username or parts.password
    except ValueError as error:
        return f"isn't an address ({error})"
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_local(url)):
        return "must begin with https://"
    if not host:
        return "names no server"
    return "must hold no name and password" if named else ""


def file_name(url: str) -> str:
    """What the file at ``url`` is called."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def look_up(wanted: WeightFile) -> RemoteFile:
    """The file at the address of ``wanted``, of which only the first bytes are read.

    Raises ``MissingWeights`` or ``UnreadableFile`` that says what the server answered,
    or what is there instead of weights.
    """
    with errors_told(wanted.url), opened(wanted.url, 0) as response:
        start = b""
        for chunk in response.iter_raw():
            start += chunk
            if len(start) >= START_BYTES:
                break
        size = int(response.headers.get("Content-Length") or 0)
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if not start.startswith(MAGIC):
        name = f"{wanted.path} of {_host(wanted.url)}"
        check_start(name, start[:START_BYTES], size or len(start))
    if not size:
        raise MissingWeights(
            f"{_host(wanted.url)} doesn't say how large {wanted.path} is. Get the file "
            "in another way and put it into ckpts"
        )
    return RemoteFile(
        repository="",
        path=wanted.path,
        url=wanted.url,
        size=size,
        digest=wanted.sha256 or "",
        commit=version or "",
    )


@contextmanager
def opened(url: str, start: int) -> Iterator[httpx2.Response]:
    """The answer for ``url`` from the byte ``start`` on. No token of the hub goes
    there, and from https no redirect leads away."""
    import httpx2

    def check(request: httpx2.Request) -> None:
        to = str(request.url)
        fault = address_fault(to)
        if not fault and _is_local(to) and not _is_local(url):
            fault = "is on this machine"
        if fault:
            raise MissingWeights(f"{_host(url)} leads to an address that {fault}")

    with (
        httpx2.Client(
            event_hooks={"request": [check]},
            follow_redirects=True,
            max_redirects=MOST_REDIRECTS,
            timeout=STALLED_SECONDS,
        ) as client,
        client.stream("GET", url, headers=asking_for(start)) as response,
    ):
        response.raise_for_status()
        yield response


def content_fault(file: Path) -> str:
    """What is wrong with a file of weights that has come, in words; empty when its
    header fits it."""
    try:
        read_stored(file)
    except UnreadableFile as error:
        return str(error).removeprefix(f"{file} ")
    return ""


@contextmanager
def errors_told(url: str, folder: Path | None = None) -> Iterator[None]:
    """Turns what goes wrong with the server, or with the disk of ``folder``, into
    ``MissingWeights``."""
    import httpx2

    host = _host(url)
    try:
        yield
    except httpx2.HTTPStatusError as error:
        raise _refused(file_name(url), host, error.response.status_code) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise MissingWeights(
            f"{file_name(url)} couldn't be downloaded from {host}: "
            f"{str(error).strip() or type(error).__name__}. Check the connection, then "
            "retry: what has arrived is kept"
        ) from error
    except OSError as error:
        if error.errno not in NO_SPACE or folder is None:
            raise
        raise no_space(file_name(url), folder) from error


def _refused(name: str, host: str, status: int) -> MissingWeights:
    if status in (401, 403):
        remedy = "Get it there with your account and put it into ckpts"
        return MissingWeights(f"{host} refuses {name} ({status}). {remedy}")
    if status in (404, 410):
        remedy = "Correct the address in the model's file"
        return MissingWeights(f"{host} has no {name} ({status}). {remedy}")
    return MissingWeights(f"{host} answered {status} for {name}. Retry later")


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in THIS_MACHINE


def name_fault(path: str) -> str:
    """Why a file at an address can't be called ``path``, in words."""
    if path.endswith(SUFFIXES):
        return ""
    return f"say with path how the file is to be called, ending in {SUFFIXES[0]}"

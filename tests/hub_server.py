"""A hub on the loopback device, for the real client: repositories are dictionaries.

It answers what a download asks: the tree of a repository, a file's metadata (HEAD) and
its content, whole or from somewhere in the middle. Attributes make it misbehave.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlparse

from tests.loopback import serving

CONSTANTS = "huggingface_hub.constants."
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def safetensors(size):
    """A sound file with one tensor of ``size`` random bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(size)


class FakeHub:
    """``files[repository][path]`` is a file's content."""

    def __init__(self, files: dict[str, dict[str, bytes]]) -> None:
        self.files = files
        self.requests: list[str] = []
        """``GET path 0-``, in their order."""
        self.tokens: set[str | None] = set()
        """The authorizations that came with them."""
        self.sent = 0
        """Bytes of content."""
        self.cut_after: int | None = None
        """The next answer longer than this ends there, once."""
        self.block, self.pause = 1 << 16, 0.0
        """Content goes out in blocks with a pause after each."""
        self.garbled = False
        self.refusals: dict[str, tuple[int, str]] = {}
        """Repository → status and error code of every answer."""
        self.address = ""

    @contextmanager
    def serving(self) -> Iterator["FakeHub"]:
        handler = type("Handler", (_Handler,), {"hub": self})
        with serving(handler) as self.address:
            yield self


def ask(monkeypatch, address, cache):
    """Make the hub's client in this process ask the hub at ``address``, and keep its
    files in ``cache``."""
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(CONSTANTS + "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(CONSTANTS + "ENDPOINT", address)
    monkeypatch.setattr(CONSTANTS + "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(CONSTANTS + "HF_HUB_CACHE", str(cache))


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        self._answer(with_content=True)

    def _answer(self, *, with_content):
        path = unquote(urlparse(self.path).path).strip("/")
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.hub.tokens.add(self.headers.get("Authorization"))
        self.hub.requests.append(f"{self.command} {path} {start}-")
        if path.startswith("api/models/"):
            self._tree(path.removeprefix("api/models/"))
        elif "/resolve/main/" not in path:
            self._send(404, b"", {})
        else:
            self._file(*path.split("/resolve/main/"), start, with_content=with_content)

    def _tree(self, path):
        repository, _, folder = path.partition("/tree/main")
        if not self._refused(repository):
            folder = folder.strip("/")
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.hub.files[repository].items()
                if not folder or name.startswith(f"{folder}/")
            ]
            self._send(200, json.dumps(entries).encode(), {})

    def _refused(self, repository, path=None):
        known = self.hub.files.get(repository)
        status, code = self.hub.refusals.get(repository, (0, ""))
        if known is None:
            status, code = 401, "RepoNotFound"
        elif not status and path is not None and path not in known:
            status, code = 404, "EntryNotFound"
        if status:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})
        return bool(status)

    def _file(self, repository, path, start, *, with_content):
        if self._refused(repository, path):
            return
        content = self.hub.files[repository][path]
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
        }
        if self.hub.garbled and with_content:
            content = bytes(reversed(content))
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/x"
        self._send(206 if start else 200, content[start:], headers, with_content)

    def _send(self, status, content, headers, with_content=True):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not with_content:
            return
        cut, end = self.hub.cut_after, len(content)
        if is_cut := cut is not None and cut < end:
            end, self.hub.cut_after = cut, None
        try:
            for position in range(0, end, self.hub.block):
                block = content[position : min(position + self.hub.block, end)]
                self.wfile.write(block)
                self.hub.sent += len(block)
                time.sleep(self.hub.pause)
        except OSError:  # the client is gone
            self.close_connection = True
        if is_cut:
            self.close_connection = True

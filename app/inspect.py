"""Says what a file is: ``wgp.py --inspect FILE``.

A checkpoint or a LoRA by its header, a saved queue, a file of requests or a finished
video by the requests in it. Nothing is loaded, run or kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

from app.cli import read_requests
from app.options import Options
from engine.catalogue import get_model
from engine.errors import UnreadableFile, UserError
from engine.loading.inspection import inspect_weights
from engine.media.metadata import read_request
from engine.queue.zip_reader import BROKEN
from engine.settings import Settings
from engine.validate import read_json, read_start

USABLE, REFUSED = 0, 2

QUEUE = "queue.json"


def inspect(options: Options) -> int:
    """Print what the file ``options.inspect`` is, as JSON; returns the exit code: 0
    usable, 2 refused, with the ``reason`` in the JSON and on standard error."""
    file = Path(options.inspect or "")
    report: dict[str, Any] = {"file": str(file)}
    try:
        report["kind"] = _kind_of(file)
        report |= _look_into(file, report["kind"], options)
    except UserError as error:
        report |= {"usable": False, "reason": str(error)}
    sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if report["usable"]:
        return USABLE
    sys.stderr.write(f"wgp: {report['reason']}\n")
    return REFUSED


def _look_into(file: Path, kind: str, options: Options) -> dict[str, Any]:
    variant = get_model(options.model, options.settings) if options.model else None
    if kind == "video":
        request = json.loads(read_request(file).to_json())
        return {"request": request, "usable": True}
    if kind in ("queue", "requests"):
        return {"requests": _requests_in(file, options.settings), "usable": True}
    return inspect_weights(file, variant, options.settings)


def _requests_in(file: Path, settings: Settings) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="wgp-") as scratch:
        requests, _ = read_requests(file, settings, Path(scratch))
    return [json.loads(request.to_json()) for request in requests]


def _kind_of(file: Path) -> str:
    """By its content: ``queue``, ``requests``, ``video`` or ``weights``."""
    try:
        if file.is_dir():
            return "weights"
        if file.exists() and not file.is_file():
            raise UnreadableFile(f"{file} is neither a file nor a folder")
        with file.open("rb") as content:
            start = content.read(16).removeprefix(BOM_UTF8)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    if start[4:8] == b"ftyp":
        return "video"
    if start.startswith(b"PK"):
        return "queue" if _is_queue(file) else "weights"
    is_text = b"\0" not in start and start.lstrip()[:1] in (b"{", b"[")
    return "requests" if is_text and not _is_index(file) else "weights"


def _is_queue(file: Path) -> bool:
    """Or a pickled checkpoint, which is a zip file too."""
    try:
        with zipfile.ZipFile(file) as archive:
            return QUEUE in archive.namelist()
    except BROKEN:
        return file.suffix == ".zip"


def _is_index(file: Path) -> bool:
    """Whether it says which files a checkpoint in parts has."""
    try:
        data = read_json(read_start(file), file.name)
    except (OSError, UserError):
        return False
    return isinstance(data, dict) and "weight_map" in data

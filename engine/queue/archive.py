"""Saved queues: jobs and the media they need in one zip file.

``queue.json`` holds ``{"schema": 1, "jobs": [{"id", "request", "media"}]}``, where
``media`` says which file of the zip each media field of the request names:
``{"image_start": "media/<sha256>.png"}``, a list for fields that take several. Those
of ``conditions`` are listed in order; the rest of each condition stays in the request.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import Problem, RequestError, UnreadableFile, UserError
from engine.media.inputs import named_media
from engine.queue.job import Job, JobStore
from engine.queue.zip_reader import ZipReader, open_zip
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import MOST_JSON_BYTES, accept, check, read_json

SCHEMA = 1
BLOCK = 1 << 20
ENTRY_NAMES = re.compile(r"queue\.json|media/[0-9a-f]{64}\.[a-z0-9]{1,8}")


class _SavedJob(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str
    request: dict[str, Any]
    media: dict[str, str | list[str]] = Field(default_factory=dict)


class _SavedQueue(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: int = Field(alias="schema", ge=1)
    jobs: list[_SavedJob]


def save(jobs: Sequence[Job], file: Path, media_root: Path) -> None:
    """Write the requests of ``jobs`` and their media to the zip ``file``, which
    appears when it is whole. ``media_root`` is what relative names start from.

    Raises ``UserError`` when a medium is gone or the disk refuses.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", strict_timestamps=False) as archive:
            saved = [_save_job(job, archive, media_root) for job in jobs]
            document = {"schema": SCHEMA, "jobs": saved}
            text = json.dumps(document, ensure_ascii=False, indent=1)
            archive.writestr("queue.json", text, zipfile.ZIP_DEFLATED)
        part.replace(file)
    except OSError as error:
        raise UserError(f"can't save the queue as {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def restore(file: Path, store: JobStore, settings: Settings) -> list[Job]:
    """Append the jobs of the saved queue ``file`` to ``store``, all or none; their
    media go to ``settings.media``.

    Raises ``UnreadableFile`` that names the file and the entry, or ``RequestError``
    with the problems of every job.
    """
    with open_zip(file, ENTRY_NAMES) as archive:
        jobs = _read_jobs(archive)
        try:
            settings.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=".restore-", dir=settings.root
            ) as name:
                folder = Path(name)
                requests = [
                    accept(each, folder=folder, settings=settings)
                    for each in _check_all(jobs, archive, folder, settings)
                ]
        except OSError as error:
            raise UserError(
                f"can't restore {file.name} into {settings.root}: {error.strerror}"
            ) from error
    return store.add(requests, ids=[job.id for job in jobs])


def read_requests(
    file: Path, folder: Path, settings: Settings
) -> list[GenerationRequest]:
    """The complete requests of the saved queue ``file``; their media are unpacked to
    ``folder``, which they are relative to. Nothing else is written.

    Raises as ``restore`` does.
    """
    with open_zip(file, ENTRY_NAMES) as archive:
        return _check_all(_read_jobs(archive), archive, folder, settings)


def _save_job(job: Job, archive: zipfile.ZipFile, media_root: Path) -> dict[str, Any]:
    request = json.loads(job.request.to_json())
    media: dict[str, Any] = {}
    for condition in request.get("conditions", []):
        del condition["file"]
    for medium in named_media(job.request):
        field, name = medium.field, medium.name
        if field != "conditions":
            request.pop(field, None)
        try:
            entry = _save_medium(media_root / name, archive)
        except FileNotFoundError as error:
            raise UserError(
                f"can't save job {job.id}: its {field}, {name}, is gone. Remove the "
                "job, then save again"
            ) from error
        if isinstance(getattr(job.request, field), list):
            media.setdefault(field, []).append(entry)
        else:
            media[field] = entry
    return {"id": job.id, "request": request, "media": media}


def _save_medium(path: Path, archive: zipfile.ZipFile) -> str:
    """Add the file unless it is there; returns its name in the zip."""
    digest = hashlib.sha256()
    with path.open("rb") as medium:
        while block := medium.read(BLOCK):
            digest.update(block)
    entry = f"media/{digest.hexdigest()}{path.suffix.lower()}"
    if not ENTRY_NAMES.fullmatch(entry):
        entry = f"media/{digest.hexdigest()}.bin"
    if entry not in archive.namelist():
        archive.write(path, entry)  # stored as it is: media are packed already
    return entry


def _read_jobs(archive: ZipReader) -> list[_SavedJob]:
    where = f"queue.json in {archive.name}"
    text = bytearray()
    for block in archive.blocks("queue.json"):
        text += block
        if len(text) > MOST_JSON_BYTES:
            break  # read_json refuses it
    data = read_json(bytes(text), where)
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UnreadableFile(
            f"{archive.name} was saved by a newer version of this app: its schema is "
            f"{schema}, this one reads {SCHEMA}. Update the app"
        )
    try:
        return _SavedQueue.model_validate(data).jobs
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise UnreadableFile(f"{where}: {place}: {first['msg']}") from error


def _check_all(
    jobs: Sequence[_SavedJob], archive: ZipReader, folder: Path, settings: Settings
) -> list[GenerationRequest]:
    """The complete requests; media are unpacked to ``folder``, none is kept. Raises
    ``RequestError`` with the problems of every job."""
    requests: list[GenerationRequest] = []
    problems: list[Problem] = []
    for number, job in enumerate(jobs, start=1):
        try:
            values = _with_media(job, archive, folder)
            requests.append(check(values, folder=folder, settings=settings))
        except RequestError as error:
            where = f"job {number} of {len(jobs)}: "
            problems += [
                Problem(problem.field, where + problem.message)
                for problem in error.problems
            ]
    if problems:
        raise RequestError(problems)
    return requests


def _with_media(job: _SavedJob, archive: ZipReader, folder: Path) -> dict[str, Any]:
    """The values of the job's request, its media named by their names in ``folder``,
    to which they are unpacked."""
    problems = [
        Problem(field, "a saved queue names its files under 'media'")
        for field in GenerationRequest.MEDIA_FIELDS
        if _names_files(field, job.request.get(field))
    ]
    values = dict(job.request)
    for field, entries in job.media.items():
        if field not in GenerationRequest.MEDIA_FIELDS:
            problems.append(Problem(field, "is no field that takes a file"))
            continue
        listed = entries if isinstance(entries, list) else [entries]
        missing = [entry for entry in listed if entry not in archive]
        if missing:
            problems.append(Problem(field, f"{missing[0]!r} isn't in {archive.name}"))
            continue
        names = [_unpack(entry, archive, folder) for entry in listed]
        if field == "conditions":
            values[field] = _conditions(job, names)
        else:
            values[field] = names if isinstance(entries, list) else names[0]
    if problems:
        raise RequestError(problems)
    return values


def _names_files(field: str, value: object) -> bool:
    """Whether a media field names a file itself, instead of leaving it to ``media``."""
    if field == "conditions" and isinstance(value, list):
        return any(isinstance(each, dict) and "file" in each for each in value)
    return bool(value)


def _conditions(job: _SavedJob, names: list[str]) -> list[dict[str, Any]]:
    """The conditions of the job's request with their files."""
    listed = job.request.get("conditions")
    all_of_them = listed if isinstance(listed, list) else []
    conditions = [each for each in all_of_them if isinstance(each, dict)]
    if len(conditions) != len(names):
        message = f"the queue holds {len(names)} files for {len(conditions)} conditions"
        raise RequestError([Problem("conditions", message)])
    pairs = zip(conditions, names, strict=True)
    return [{**condition, "file": name} for condition, name in pairs]


def _unpack(entry: str, archive: ZipReader, folder: Path) -> str:
    """Write the medium to ``folder``, once; returns its name there."""
    name = entry.rpartition("/")[2]
    if not (folder / name).exists():
        digest = hashlib.sha256()
        with (folder / name).open("wb") as medium:
            for block in archive.blocks(entry):
                digest.update(block)
                medium.write(block)
        if digest.hexdigest() != name.partition(".")[0]:
            raise UnreadableFile(
                f"{entry} in {archive.name} is damaged: its content doesn't match its "
                "name"
            )
    return name

"""The catalogue: each family's models as rows of data in a YAML file.

A file maps ids to rows. A row's keys are the fields of ``ModelVariant``. With ``base``
a row takes over another one's and names what differs: mappings are merged key by key,
all else is replaced, and ``null`` gives a key back. Only the folder isn't taken over:
where a row names none it is the id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from engine.errors import UnreadableFile
from engine.family import FORBID_EXTRA, ModelVariant
from engine.request import GenerationRequest
from engine.validate import problems_of

Row = Mapping[str, Any]

KEYS = tuple(each.name for each in fields(ModelVariant) if each.name != "family")


@dataclass(frozen=True)
class NoOptions:
    """Of a family whose rows say all that there is to know."""

    __pydantic_config__ = FORBID_EXTRA


def read_rows(
    file: Path, family: str, options: type = NoOptions
) -> tuple[ModelVariant, ...]:
    """The rows of ``family`` in ``file``, in its order. ``options`` is what the
    family's own part of a row must be: a dataclass.

    Raises ``UnreadableFile`` that names file, row and key.
    """
    rows = _read(file)
    return tuple(
        _variant({"id": model, **_whole(model, rows, file)}, family, options, file)
        for model in rows
    )


def _read(file: Path) -> dict[str, Row]:
    try:
        rows = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UnreadableFile(f"can't read {file}: {error}") from error
    if not isinstance(rows, dict):
        raise UnreadableFile(f"{file} has no models; it must map ids to rows")
    for model, row in rows.items():
        if not isinstance(row, dict):
            raise UnreadableFile(f"{file}: {model}: a row maps keys to values")
    return rows


def _whole(model: str, rows: Mapping[str, Row], file: Path) -> Row:
    """A row together with what it takes over."""
    chain = [model]
    while base := rows[chain[-1]].get("base"):
        if base not in rows:
            near = _near(base, rows)
            raise UnreadableFile(f"{file}: {chain[-1]}: base: no row is {base!r}{near}")
        if base in chain:
            raise UnreadableFile(f"{file}: {model}: base: goes round in a circle")
        chain.append(base)
    whole: Row = {}
    for each in reversed(chain):
        own = {key: value for key, value in rows[each].items() if key != "base"}
        whole = merged({**whole, "folder": each}, own)
    return whole


def merged(base: Row, own: Row) -> Row:
    """``base`` with what ``own`` says, mappings key by key; ``None`` gives a key
    back."""
    result = {**base}
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = merged(base[key], value)
        else:
            result[key] = value
    return {key: value for key, value in result.items() if value is not None}


def _variant(row: Row, family: str, options: type, file: Path) -> ModelVariant:
    place = f"{file}: {row['id']}"
    for key in row:
        if key not in KEYS:
            raise UnreadableFile(f"{place}: {key}: no such key{_near(key, KEYS)}")
    try:
        own: Any = TypeAdapter(options).validate_python(row.get("options", {}))
    except ValidationError as error:
        raise UnreadableFile(f"{place}: options: {_told(error)}") from error
    try:
        variant = TypeAdapter(ModelVariant).validate_python(
            {**row, "family": family, "options": own}
        )
    except ValidationError as error:
        raise UnreadableFile(f"{place}: {_told(error)}") from error
    try:
        GenerationRequest.model_validate(
            {"model": variant.id, "prompt": "any", **variant.defaults}
        )
    except ValidationError as error:
        problem = problems_of(error)[0]
        raise UnreadableFile(f"{place}: defaults: {problem}") from error
    return variant


def _near(name: str, known: Any) -> str:
    near = get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}"

"""The catalogue: each family's models as rows of data in a YAML file.

A file maps ids to rows. A row's keys are the fields of ``ModelVariant``. With ``base``
a row takes over another one's and names what differs: mappings are merged key by key,
all else is replaced, and ``null`` gives a key back. Only the folder isn't taken over:
where a row names none it is the id.

Users add models in the data folder: one row in a file of its own, on the base of one of
the app's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from engine.errors import Problem, RequestError, UnreadableFile
from engine.family import (
    FORBID_EXTRA,
    ModelVariant,
    WeightFile,
    all_variants,
    get_variant,
)
from engine.loading.address import address_fault, file_name, name_fault
from engine.request import GenerationRequest
from engine.settings import Settings

Row = Mapping[str, Any]

KEYS = tuple(each.name for each in fields(ModelVariant) if each.name != "family")

PLACES = ("id", "folder", "base_folder")
"""Keys that a user's row has from its file's name and its base."""

NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")

SHA256 = re.compile("[0-9a-f]{64}")


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


@dataclass(frozen=True)
class OwnModels:
    """What lies in the user's folder of models."""

    rows: Mapping[str, ModelVariant]
    problems: Mapping[str, str]
    """Id → why its file can't be used."""


def all_models(settings: Settings) -> dict[str, ModelVariant]:
    """Every model that can be chosen by its id: the app's, then the user's."""
    return {**all_variants(), **own_models(settings).rows}


def get_model(model: str, settings: Settings) -> ModelVariant:
    """The row with this id; raises ``RequestError`` that says what is wrong with it, or
    which could be meant."""
    own = own_models(settings)
    if model in own.problems:
        raise RequestError([Problem("model", own.problems[model])])
    return get_variant(model, own.rows)


def own_models(settings: Settings) -> OwnModels:
    """The user's models, as the files are now."""
    rows, problems = {}, {}
    shipped = all_variants()
    for file in sorted(settings.models.glob("*.yaml")):
        try:
            state = file.stat()
            rows[file.stem] = _own_row(file, (state.st_mtime_ns, state.st_size))
        except (UnreadableFile, OSError) as error:
            problems[file.stem] = str(error)
        if file.stem in shipped:
            rows.pop(file.stem, None)
            told = f"{file}: the app has a model of this name; rename the file"
            problems[file.stem] = told
    return OwnModels(rows, problems)


@lru_cache(maxsize=256)
def _own_row(file: Path, _state: tuple[int, int]) -> ModelVariant:
    """Read anew when its state is another."""
    if not NAME.fullmatch(file.stem):
        raise UnreadableFile(
            f"{file}: a model's name has small letters, digits, dots and hyphens"
        )
    row = {**_mapping(file)}
    shipped = all_variants()
    named = row.pop("base", None)
    base = shipped.get(str(named))
    if base is None:
        near = _near(str(named), shipped) or f", such as {next(iter(shipped))!r}"
        raise UnreadableFile(
            f"{file}: base: must be the id of one of the app's models{near}"
        )
    for key in PLACES:
        if key in row:
            raise UnreadableFile(f"{file}: {key}: follows from the file's name")
    whole = {**TypeAdapter(ModelVariant).dump_python(base), "id": file.stem}
    if "files" in row and not base.files:
        whole |= {"folder": file.stem, "base_folder": base.folder}
    whole.pop("family")
    variant = _variant(merged(whole, row), base.family, type(base.options), file)
    files = {
        component: tuple(_own_file(c, f"{file}: files.{component}") for c in choices)
        for component, choices in variant.files.items()
    }
    return replace(variant, files=files)


def _own_file(choice: WeightFile, place: str) -> WeightFile:
    """``choice`` as it is looked for. Raises ``UnreadableFile`` when it may not be."""
    if choice.url:
        fault = "has a repository, too" if choice.repository else ""
        if fault := fault or address_fault(choice.url):
            raise UnreadableFile(f"{place}: url: {fault}")
        choice = replace(choice, path=choice.path or file_name(choice.url))
        if fault := name_fault(choice.path):
            raise UnreadableFile(f"{place}: url: {fault}")
    if choice.sha256 is not None:
        choice = replace(choice, sha256=choice.sha256.lower())
        if not SHA256.fullmatch(choice.sha256 or ""):
            raise UnreadableFile(f"{place}: sha256: must be 64 hexadecimal digits")
    for name in (choice.repository, choice.path):
        _check_below(name, place)
    return choice


def _check_below(name: str, place: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise UnreadableFile(f"{place}: {name} must be a path below a folder of models")


def _mapping(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UnreadableFile(f"can't read {file}: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableFile(f"{file} must map keys to values")
    return found


def _read(file: Path) -> dict[str, Row]:
    rows = _mapping(file)
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
        raise UnreadableFile(f"{place}: defaults: {_told(error)}") from error
    return variant


def _near(name: str, known: Any) -> str:
    near = get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: no such key{_near(key, GenerationRequest.model_fields)}"
    if first["type"] == "missing":
        return f"{key}: is missing"
    return f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}"

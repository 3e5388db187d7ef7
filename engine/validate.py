"""The one door for requests: whatever comes from a form, a file, HTTP or a script
becomes a complete request that a model can run, or sentences that say why not.
"""

from __future__ import annotations

import json
import secrets
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine.catalogue import get_model
from engine.errors import Problem, RequestError, UnreadableFile
from engine.family import ModelVariant
from engine.guidance import guidance_problems
from engine.licences import licence_refusal
from engine.lora.check import lora_problems
from engine.media.inputs import check_media, find_medium, keep_media
from engine.own_fields import own_field_problems
from engine.request import SEED_LIMIT, Condition, GenerationRequest, Lora
from engine.settings import Settings
from engine.timeline import timeline_problems

MOST_JSON_BYTES = 16 << 20

VAE_TILE_MULTIPLE = 32

FIELDS = tuple(
    field.alias or name for name, field in GenerationRequest.model_fields.items()
)

TIMELINE = {"num_frames", "fps", "overlap_frames", *GenerationRequest.MEDIA_FIELDS}
"""Fields that must be right before it is judged when media are shown."""


def accept(
    data: object, *, folder: Path | None, settings: Settings
) -> GenerationRequest:
    """The request in ``data`` (a JSON object or a request), checked and complete:
    the model's defaults filled in, the seed drawn, the input media kept.

    ``folder`` is where the request's own file lies, if it has one; its media may lie
    there too. Raises ``RequestError`` with one problem per field.
    """
    return keep_media(check(data, folder=folder, settings=settings), folder, settings)


def check(
    data: object, *, folder: Path | None, settings: Settings
) -> GenerationRequest:
    """The same as ``accept``, but nothing is written: its media stay where they are."""
    values = _as_object(data)
    problems = _problems_of_values(values)
    wrong = {problem.field for problem in problems}
    sound = {
        key: value
        for key, value in values.items()
        if key in FIELDS and key not in wrong
    }
    if "model" in sound:
        try:
            variant = get_model(str(sound["model"]), settings)
        except RequestError as error:
            raise RequestError([*error.problems, *problems]) from error
        request = _complete(sound, variant, wrong)
        found = _problems_for_model(request, variant, folder, settings)
        problems += [problem for problem in found if problem.field not in wrong]
        if not TIMELINE & {problem.field for problem in problems}:
            problems += timeline_problems(
                request, variant, lambda name: _find(name, folder, settings)
            )
    if problems:
        raise RequestError(problems)
    return request


def read_start(file: Path) -> bytes:
    """The content of ``file``, of a huge one only so much that ``read_json`` refuses
    it. Raises ``OSError``."""
    with file.open("rb") as opened:
        return opened.read(MOST_JSON_BYTES + 1)


def read_json(text: str | bytes, name: str) -> object:
    """What ``text`` holds; ``name`` says what it is, for the error.

    Raises ``UnreadableFile`` for broken, huge or too deeply nested JSON.
    """
    if len(text) > MOST_JSON_BYTES:
        raise UnreadableFile(f"{name} is larger than {MOST_JSON_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UnreadableFile(f"{name} isn't a request: too deeply nested") from error
    except json.JSONDecodeError as error:
        raise UnreadableFile(
            f"{name} isn't JSON: {error.msg} at line {error.lineno}, column "
            f"{error.colno}"
        ) from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise UnreadableFile(f"{name} isn't JSON: {error}") from error


def problems_of(error: ValidationError) -> list[Problem]:
    """Pydantic's findings in plain sentences, the first per field."""
    problems: dict[str, Problem] = {}
    for details in error.errors():
        field = str(details["loc"][0]) if details["loc"] else ""
        problems.setdefault(field, Problem(field, _sentence(field, details)))
    return list(problems.values())


def _as_object(data: object) -> dict[str, Any]:
    if isinstance(data, GenerationRequest):
        return data.model_dump(by_alias=True, exclude_none=True)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        kind = "a list" if isinstance(data, list) else _shown(data)
        raise RequestError([Problem("", f"a request is a JSON object, not {kind}")])
    return dict(data)


def _problems_of_values(values: dict[str, Any]) -> list[Problem]:
    """What is wrong whatever the model."""
    problems = []
    try:
        GenerationRequest.model_validate(values)
    except ValidationError as error:
        problems = problems_of(error)
    wrong = {problem.field for problem in problems}
    for field in ("prompt", "negative_prompt"):
        text = values.get(field)
        if field in wrong or not isinstance(text, str):
            continue
        if "\0" in text:
            problems.append(Problem(field, "contains a NUL character; delete it"))
        elif field == "prompt" and not text.strip():
            problems.append(Problem(field, "is empty; say what the video shows"))
    return problems


def _complete(
    values: dict[str, Any], variant: ModelVariant, wrong: set[str]
) -> GenerationRequest:
    """A request with every field filled: ``wrong`` ones too, so that the others can
    be judged against the model."""
    given = {key: value for key, value in values.items() if value is not None}
    defaults = dict(variant.defaults)
    if "source_video" not in given:
        defaults.pop("overlap_frames", None)
        defaults.pop("strength", None)
    if given.get("seed", -1) == -1:
        given["seed"] = secrets.randbelow(SEED_LIMIT)
    if "prompt" in wrong:
        given["prompt"] = variant.title
    return GenerationRequest.model_validate({**defaults, **given})


def _problems_for_model(
    request: GenerationRequest,
    variant: ModelVariant,
    folder: Path | None,
    settings: Settings,
) -> list[Problem]:
    problems = [
        *_licence_problems(variant, settings),
        *_prompt_problems(request, variant),
        *_size_problems(request, variant),
        *_length_problems(request, variant),
        *_tile_problems(request, variant),
        *own_field_problems(request, variant),
        *guidance_problems(request, variant),
        *check_media(request, variant, folder, settings),
        *lora_problems(request, variant, settings),
    ]
    if request.scheduler not in variant.schedulers:
        known = ", ".join(variant.schedulers)
        problems.append(
            Problem(
                "scheduler",
                f"{variant.id} has no scheduler {request.scheduler!r}; it has {known}",
            )
        )
    return problems


def _find(name: str, folder: Path | None, settings: Settings) -> Path:
    path = find_medium(name, folder, settings)
    assert path is not None  # check_media refused it
    return path


def _licence_problems(variant: ModelVariant, settings: Settings) -> list[Problem]:
    refusal = licence_refusal(variant, settings)
    return [Problem("model", refusal)] if refusal else []


def _prompt_problems(
    request: GenerationRequest, variant: ModelVariant
) -> list[Problem]:
    parts = request.prompt.split("|") if variant.prompt_parts else []
    empty = [number for number, part in enumerate(parts, 1) if not part.strip()]
    if not empty:
        return []
    message = f"part {empty[0]} of {len(parts)} is empty; parts are separated by |"
    return [Problem("prompt", message)]


def _tile_problems(request: GenerationRequest, variant: ModelVariant) -> list[Problem]:
    pixels, least = request.vae_tile_size, variant.limits.min_vae_tile
    if pixels is None:
        return []
    if not least:
        message = f"{variant.id} has no tiling to choose; leave it out"
    elif pixels == 0:
        return []
    elif pixels < least:
        message = f"must be 0 (off) or at least {least}, is {pixels}"
    elif pixels % VAE_TILE_MULTIPLE:
        nearest = round(pixels / VAE_TILE_MULTIPLE) * VAE_TILE_MULTIPLE
        message = (
            f"{pixels} isn't a multiple of {VAE_TILE_MULTIPLE}; {max(nearest, least)} "
            "is the nearest that works"
        )
    else:
        return []
    return [Problem("vae_tile_size", message)]


def _size_problems(request: GenerationRequest, variant: ModelVariant) -> list[Problem]:
    limits = variant.limits
    problems = []
    for field in ("width", "height"):
        pixels = getattr(request, field)
        if not limits.min_size <= pixels <= limits.max_size:
            message = (
                f"{variant.id} makes {limits.min_size} to {limits.max_size} pixels, "
                f"not {pixels}"
            )
        elif pixels % limits.size_multiple:
            message = (
                f"{pixels} isn't a multiple of {limits.size_multiple}; "
                f"{limits.snap_size(pixels)} is the nearest that works"
            )
        else:
            continue
        problems.append(Problem(field, message))
    return problems


def _length_problems(
    request: GenerationRequest, variant: ModelVariant
) -> list[Problem]:
    limits, frames = variant.limits, request.num_frames
    assert frames is not None and request.fps is not None  # _complete filled them
    if frames > limits.max_frames:
        message = f"{variant.id} makes at most {limits.max_frames} frames, not {frames}"
    elif (frames - 1) % limits.frames_multiple or frames < limits.min_frames:
        near = limits.near_frames(frames)
        nearest = f"{' and '.join(map(str, near))} {'is' if len(near) < 2 else 'are'}"
        message = f"{frames} isn't {limits.frames_multiple}k + 1"
        if limits.in_sections:
            sections = limits.sections_told(request.fps)
            message = f"{variant.id} makes {sections}, which {frames} frames aren't"
        message += f"; {nearest} the nearest that {'work' if near[1:] else 'works'}"
    else:
        return []
    return [Problem("num_frames", message)]


LISTED: dict[str, tuple[str, type[BaseModel]]] = {
    "conditions": ("condition", Condition),
    "loras": ("LoRA", Lora),
}
"""Fields that are lists of objects → what one is called, and its type."""


def _sentence(field: str, details: ErrorDetails) -> str:
    place = details["loc"][1:]
    if field not in LISTED or not place:
        return _judgement(field, FIELDS, details)
    noun, kind = LISTED[field]
    known = tuple(kind.model_fields)
    part = str(place[1]) if len(place) > 1 else ""
    said = _judgement(part or str(place[-1]), known, details)
    if details["type"] == "model_type":
        needed = (n for n, each in kind.model_fields.items() if each.is_required())
        shown = _shown(details["input"])
        said = f"must be an object with {' and '.join(needed)}, is {shown}"
    joined = f"is {said}" if said.startswith("no ") else said
    return f"{noun} {int(place[0]) + 1}: {f'{part} {joined}'.strip()}"


def _judgement(field: str, known: tuple[str, ...], details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    limits = {
        name: f"{limit:g}" if isinstance(limit, float) else limit
        for name, limit in details.get("ctx", {}).items()
    }
    phrase = _PHRASES.get(kind)
    if kind == "extra_forbidden":
        near = _nearest_field(field, known)
        return f"no such field; did you mean {near!r}?" if near else "no such field"
    if phrase is None:
        return f"{details['msg'][:1].lower()}{details['msg'][1:]}"
    return phrase.format(**limits, value=_shown(value))


def _nearest_field(name: str, known: tuple[str, ...]) -> str | None:
    part_of = [field for field in known if len(name) > 3 and name.lower() in field]
    near = part_of or get_close_matches(name, known, n=1, cutoff=0.5)
    return near[0] if near else None


_PHRASES = {
    "missing": "is missing",
    "greater_than_equal": "must be at least {ge}, is {value}",
    "greater_than": "must be more than {gt}, is {value}",
    "less_than_equal": "must be at most {le}, is {value}",
    "less_than": "must be less than {lt}, is {value}",
    "finite_number": "must be a finite number, is {value}",
    "int_type": "must be a whole number, is {value}",
    "int_from_float": "must be a whole number, is {value}",
    "float_type": "must be a number, is {value}",
    "string_type": "must be text, is {value}",
    "string_unicode": "has a character that is cut in half; type it again",
    "string_too_short": "is empty",
    "string_too_long": "must have at most {max_length} characters",
    "list_type": "must be a list, is {value}",
    "too_long": "must have at most {max_length} entries, has {actual_length}",
}


def _shown(value: object) -> str:
    """A value as JSON writes it, cut short."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."

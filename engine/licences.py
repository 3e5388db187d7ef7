"""Licences of the models, and which of them were accepted.

A licence that not everybody may use is accepted once for a data root, before the
first download or use of a model under it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

from engine.aside import write_aside
from engine.errors import LicenceNotAccepted, UnreadableFile, UserError
from engine.family import ModelVariant
from engine.settings import Settings

ENVIRONMENT = "WGP_ACCEPT_LICENCE"
"""Variable that names licences, separated by commas, which count as accepted while it
is set."""


@dataclass(frozen=True)
class Licence:
    """What a model may be used for."""

    name: str
    """As rows name it."""
    address: str
    """Of its text."""
    limits: str = ""
    """Who may not use the model, and for what not: sentences."""
    must_be_accepted: bool = False
    releases: Mapping[str, str] = field(default_factory=dict)
    """How ids of models begin → the address of the text that they came with, where it
    isn't the usual one."""

    def address_for(self, variant: ModelVariant) -> str:
        """Where the text is that this model came with."""
        return next(
            (
                address
                for start, address in self.releases.items()
                if variant.id.startswith(start)
            ),
            self.address,
        )


APACHE = Licence(
    name="Apache-2.0", address="https://www.apache.org/licenses/LICENSE-2.0"
)
LTX = Licence(
    name="LTX-Video Open Weights License",
    address="https://huggingface.co/Lightricks/LTX-Video/blob/main/"
    "LTX-Video-Open-Weights-License-0.X.txt",
    limits="Companies with 10 million US dollars of yearly revenue or more need "
    "another licence. It lists uses that are forbidden.",
)
SKYWORK = Licence(
    name="Skywork Community License",
    address="https://github.com/SkyworkAI/SkyReels-V2/blob/main/LICENSE.txt",
    limits="It forbids uses against the law or a country's safety, and wants a review "
    "before a service on the internet uses the model.",
)
HUNYUAN = Licence(
    name="Tencent Hunyuan Community License",
    address="https://github.com/Tencent-Hunyuan/HunyuanVideo/blob/main/LICENSE.txt",
    limits="It does not apply in the European Union, the United Kingdom and South "
    "Korea: nobody may use the model or its videos there. Its videos may not improve "
    "other AI models, products with more than 100 million users a month need another "
    "licence, services with HunyuanVideo 1.5 must name their provider, and it lists "
    "uses that are forbidden.",
    must_be_accepted=True,
    releases={
        "hunyuan-video-i2v": "https://github.com/Tencent-Hunyuan/HunyuanVideo-I2V/blob/"
        "main/LICENSE.txt",
        "hunyuan-video-1.5": "https://github.com/Tencent-Hunyuan/HunyuanVideo-1.5/blob/"
        "main/LICENSE",
    },
)
MAKERS = Licence(
    name="Its makers' page",
    address="https://huggingface.co/vrgamedevgirl84/Wan14BT2VFusioniX",
    limits="What the model may be used for stands on its makers' page, not in one "
    "text, and parts of it may forbid commercial use.",
    releases={
        "wan2.1-t2v-14b-moviigen": "https://huggingface.co/ZuluVision/MoviiGen1.1"
    },
)
LICENCES: Mapping[str, Licence] = MappingProxyType(
    {each.name: each for each in (APACHE, LTX, SKYWORK, HUNYUAN, MAKERS)}
)
"""By the name that rows carry."""


def get_licence(name: str) -> Licence:
    """The licence called ``name``, in capitals or not; raises ``UserError`` that lists
    the known ones."""
    wanted = name.strip().casefold()
    for licence in LICENCES.values():
        if licence.name.casefold() == wanted:
            return licence
    known = ", ".join(LICENCES)
    raise UserError(f"no licence is called {name.strip()[:100]!r}; known are: {known}")


def accepted_licences(settings: Settings) -> dict[str, str]:
    """Name → when it was accepted in this data root, in ISO 8601.

    Raises ``UnreadableFile`` that says how to mend it.
    """
    try:
        stored = json.loads(settings.licences.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(settings, str(error)) from error
    if not isinstance(stored, dict):
        raise _unreadable(settings, "it isn't a JSON object")
    return {name: str(when) for name, when in stored.items()}


def accept_licence(name: str, settings: Settings) -> Licence:
    """Remember in the data root that the licence called ``name`` is accepted.

    Raises ``UserError`` when there is no such licence, or nothing can be written.
    """
    licence = get_licence(name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    accepted = {licence.name: now, **accepted_licences(settings)}
    file = settings.licences
    try:
        write_aside(file, json.dumps(accepted, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"can't write {file}: {error.strerror}") from error
    return licence


def licence_refusal(variant: ModelVariant, settings: Settings) -> str | None:
    """Why ``variant`` may not be fetched or used yet; ``None`` when it may.

    Raises ``UserError`` when that can't be told: a broken file of acceptances, or a
    name in the environment that no licence has.
    """
    licence = LICENCES.get(variant.licence)
    if licence is None or not licence.must_be_accepted:
        return None
    if licence in _accepted_by_environment():
        return None
    if licence.name in accepted_licences(settings):
        return None
    return (
        f"{variant.id} is under the {licence.name} "
        f"({licence.address_for(variant)}). "
        f"{licence.limits} If you accept it, press I accept on the page, give "
        f'--accept-licence "{licence.name}", or set {ENVIRONMENT} to that name'
    )


def require_licence(variant: ModelVariant, settings: Settings) -> None:
    """Raises ``LicenceNotAccepted`` unless ``variant`` may be fetched and used."""
    refusal = licence_refusal(variant, settings)
    if refusal is not None:
        raise LicenceNotAccepted(refusal)


def _accepted_by_environment() -> list[Licence]:
    names = os.environ.get(ENVIRONMENT, "").split(",")
    try:
        return [get_licence(name) for name in names if name.strip()]
    except UserError as error:
        raise UserError(f"{ENVIRONMENT}: {error}") from error


def _unreadable(settings: Settings, reason: str) -> UnreadableFile:
    return UnreadableFile(
        f"can't read which licences were accepted from {settings.licences}: {reason}. "
        "Delete the file and accept them again"
    )

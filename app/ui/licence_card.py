"""The licence of the chosen model: its limits, and the button that accepts it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.ui.markup import sentence
from engine.errors import Problem, UserError
from engine.family import ModelVariant
from engine.licences import LICENCES, Licence, accepted_licences, licence_refusal
from engine.settings import Settings

ASK = "must have its licence accepted first: press I accept"


def licence_card(variant: ModelVariant, settings: Settings) -> str:
    """What the model may not be used for; asks where that must be accepted. Empty for
    a licence without limits."""
    licence = LICENCES.get(variant.licence)
    if licence is None or not licence.limits:
        return ""
    address = licence.address_for(variant)
    try:
        if licence_refusal(variant, settings) is not None:
            return _question(licence, address)
        when = accepted_licences(settings).get(licence.name, "")
    except UserError as error:
        said = f'<p class="note warn" role="status">{escape(sentence(str(error)))}</p>'
        return f'<div class="licence">{said}</div>'
    accepted = f" Accepted on {escape(when[:10])}." if when else ""
    return (
        f'<div class="licence"><p class="note">{_link(address, licence.name)}: '
        f"{escape(licence.limits)}{accepted}</p></div>"
    )


def without_terms(
    problems: Sequence[Problem], variant: ModelVariant | None, settings: Settings
) -> list[Problem]:
    """``problems`` of a request, the refusal for want of the licence in a few words:
    the card has the rest."""
    refusal = licence_refusal(variant, settings) if variant else None
    return [
        Problem(each.field, ASK) if each.message == refusal else each
        for each in problems
    ]


def _question(licence: Licence, address: str) -> str:
    return (
        f'<div class="licence ask" role="region" aria-label="Licence">'
        f"<strong>{escape(licence.name)}</strong>"
        f"<p>{escape(licence.limits)}</p><p>Before this model is used, read "
        f"{_link(address, 'its text')} and accept it for this copy of the app.</p>"
        '<button type="button" class="act main" data-action="accept-licence" '
        f'data-licence="{escape(licence.name)}">I accept</button></div>'
    )


def _link(address: str, text: str) -> str:
    return (
        f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">'
        f"{escape(text)}</a>"
    )

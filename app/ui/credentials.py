"""Who may open the page when other machines can reach it."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from app.options import Options

USER = "wgp"


@dataclass(frozen=True)
class Credentials:
    user: str
    password: str
    made_up: bool
    """Whether the person has yet to be told."""

    def match(self, user: str, password: str) -> bool:
        """Compares both in constant time."""
        same_user = hmac.compare_digest(user.encode(), self.user.encode())
        same_password = hmac.compare_digest(password.encode(), self.password.encode())
        return same_user and same_password


def choose_credentials(options: Options) -> Credentials | None:
    """The ones that were given; made up where others could reach the page; ``None``
    where only this machine can."""
    if options.auth is not None:
        user, password = options.auth
        return Credentials(user, password, made_up=False)
    if options.is_open_to_others:
        return Credentials(USER, secrets.token_urlsafe(12), made_up=True)
    return None

"""Signed, short-lived tokens: ephemeral keys and user JWTs (contract: functions-api 12.2, 12.3; side-services 5.1).

HS256 JWTs (RFC 7519), signed with the one secret of the installation. An ephemeral key is a project key with the
claims `projectId` and `scopes`, prefixed `ephemeral_`; a user JWT stands for a user, with the claims `projectId`,
`userId` and `sessionId`. What a token lacks of its own claims, or has of the other kind's, makes it invalid, so that
neither can be passed off as the other. Minting is on the hot path of every execution, so it is done with hmac
directly; reading goes through PyJWT, for each key once.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec

PREFIXES = ("ephemeral_", "dynamic_")

_HEADER = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"HS256"}').rstrip(b"=")
#: How many keys that were found good are remembered; all go together when there would be more.
_READ_MAX = 1_000
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """What a valid ephemeral key says."""

    project_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class UserJwt:
    """What a valid user JWT says. `session_id` `""` = it does not end with a session."""

    project_id: str
    user_id: str
    session_id: str
    expires_at: datetime


class Tokens:
    """Mints and reads tokens with one secret (32 random bytes, of this installation)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._mac = hmac.new(secret, digestmod=hashlib.sha256)
        self._minted_at = 0
        self._minted: dict[tuple[str, tuple[str, ...], int], str] = {}
        self._read: dict[str, tuple[EphemeralKey, float]] = {}
        """Keys that were found good, and when they end (seconds of the epoch)."""

    def mint(self, project_id: str, scopes: Sequence[str], lifetime_s: int) -> str:
        """A key for `project_id` with `scopes`, valid for `lifetime_s` seconds from now.

        Of one second, equal requests get the same text: it says nothing else, so it would come out the same.
        """
        now = int(time.time())
        if now != self._minted_at:
            self._minted_at, self._minted = now, {}
        asked = project_id, tuple(scopes), lifetime_s
        key = self._minted.get(asked)
        if key is None:
            claims = {"projectId": project_id, "scopes": scopes}
            key = self._minted[asked] = f"ephemeral_{self._sign(claims, lifetime_s, now)}"
        return key

    def mint_user_jwt(self, project_id: str, user_id: str, session_id: str, lifetime_s: int) -> str:
        """A token that makes its bearer the user for `lifetime_s` seconds, or until the session is deleted."""
        claims = {"projectId": project_id, "userId": user_id, "sessionId": session_id}
        return self._sign(claims, lifetime_s, int(time.time()))

    def read(self, text: str) -> EphemeralKey | None:
        """The key in `text` (with its prefix), or None when it is malformed, expired or not ours."""
        known = self._read.get(text)
        if known is not None and time.time() < known[1]:
            return known[0]
        return self._check(text)

    def _check(self, text: str) -> EphemeralKey | None:
        prefix = next((prefix for prefix in PREFIXES if text.startswith(prefix)), None)
        if prefix is None:
            return None
        claims = self._claims(text[len(prefix) :])
        project_id, scopes = claims.get("projectId"), claims.get("scopes")
        if not isinstance(project_id, str) or not isinstance(scopes, list) or "userId" in claims:
            return None
        key = EphemeralKey(project_id, frozenset(scope for scope in scopes if isinstance(scope, str)))
        # What is signed does not change, and what code makes many calls with need not be checked at each.
        if len(self._read) >= _READ_MAX:
            self._read.clear()
        self._read[text] = key, float(claims["exp"])
        return key

    def read_user_jwt(self, text: str) -> UserJwt | None:
        """What the user JWT `text` says, or None when it is malformed, expired or not ours."""
        claims = self._claims(text)
        project_id, user_id, session_id = (claims.get(name) for name in ("projectId", "userId", "sessionId"))
        if "scopes" in claims or not isinstance(project_id, str) or not isinstance(session_id, str):
            return None
        if not isinstance(user_id, str) or not user_id:
            return None
        return UserJwt(project_id, user_id, session_id, datetime.fromtimestamp(claims["exp"], UTC))

    def _sign(self, claims: dict[str, Any], lifetime_s: int, now: int) -> str:
        claims["iat"], claims["exp"] = now, now + lifetime_s
        message = _HEADER + b"." + base64.urlsafe_b64encode(_encode(claims)).rstrip(b"=")
        mac = self._mac.copy()
        mac.update(message)
        signature = base64.urlsafe_b64encode(mac.digest()).rstrip(b"=")
        return f"{message.decode()}.{signature.decode()}"

    def _claims(self, text: str) -> dict[str, Any]:
        """The claims of a token signed by us that has not expired; empty for any other."""
        try:
            return jwt.decode(text, self._secret, algorithms=["HS256"], options={"require": ["exp"]})
        except (jwt.InvalidTokenError, ValueError):
            return {}

"""Ephemeral keys: signed, short-lived project keys that runs and builds carry (contract: functions-api 12.3).

HS256 JWTs (RFC 7519) with the claims `projectId`, `scopes`, `iat`, `exp`, prefixed `ephemeral_`. Minting is on the
hot path of every execution, so it is done with hmac directly; reading goes through PyJWT.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jwt
import msgspec

PREFIXES = ("ephemeral_", "dynamic_")

_HEADER = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"HS256"}').rstrip(b"=")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    """What a valid ephemeral key says."""

    project_id: str
    scopes: frozenset[str]


class Tokens:
    """Mints and reads ephemeral keys with one secret (32 random bytes, of this installation)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._mac = hmac.new(secret, digestmod=hashlib.sha256)

    def mint(self, project_id: str, scopes: Sequence[str], lifetime_s: int) -> str:
        """A key for `project_id` with `scopes`, valid for `lifetime_s` seconds from now."""
        now = int(time.time())
        claims = {"projectId": project_id, "scopes": scopes, "iat": now, "exp": now + lifetime_s}
        message = _HEADER + b"." + base64.urlsafe_b64encode(_encode(claims)).rstrip(b"=")
        mac = self._mac.copy()
        mac.update(message)
        signature = base64.urlsafe_b64encode(mac.digest()).rstrip(b"=")
        return f"ephemeral_{message.decode()}.{signature.decode()}"

    def read(self, text: str) -> EphemeralKey | None:
        """The key in `text` (with its prefix), or None when it is malformed, expired or not ours."""
        for prefix in PREFIXES:
            if text.startswith(prefix):
                text = text[len(prefix) :]
                break
        else:
            return None
        try:
            claims = jwt.decode(text, self._secret, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.InvalidTokenError:
            return None
        project_id, scopes = claims.get("projectId"), claims.get("scopes", [])
        if not isinstance(project_id, str) or not isinstance(scopes, list):
            return None
        return EphemeralKey(project_id, frozenset(scope for scope in scopes if isinstance(scope, str)))

"""Secrets of sessions: how they look, how they are stored, and where a request carries them (contract: clients 5.2).

What clients hold is base64 of a JSON object with the user's id and the secret. The secret has 512 random bits, so
one round of SHA-256 is enough to store it.
"""

import base64
import binascii
import hashlib
import secrets
from urllib.parse import unquote

import msgspec

#: A longer text is no session of ours and is not looked at.
_TEXT_MAX_CHARS = 4_096
_ID_MAX_CHARS = 36

_encode = msgspec.json.Encoder().encode


class _Claim(msgspec.Struct):
    id: str
    secret: str


_decoder = msgspec.json.Decoder(_Claim)


def new_secret() -> str:
    """A new secret of a session, an invitation or the like."""
    return secrets.token_hex(64)


def hash_secret(secret: str) -> str:
    """The stored form of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def pack(user_id: str, secret: str) -> str:
    """What the client of a session is given: the value of the cookie and of `Session.secret`."""
    return base64.b64encode(_encode(_Claim(user_id, secret))).decode()


def unpack(text: str) -> tuple[str, str] | None:
    """The user's id and the secret in what a client sent, or None when it is no session of ours."""
    if not text or len(text) > _TEXT_MAX_CHARS:
        return None
    if "%" in text:  # some cookie jars escape the padding
        text = unquote(text)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        claim = _decoder.decode(raw)
    except (binascii.Error, ValueError):
        return None
    if not claim.id or len(claim.id) > _ID_MAX_CHARS or not claim.secret:
        return None
    return claim.id, claim.secret


def cookie_name(project_id: str) -> str:
    """The name of the cookie that carries a session of a project."""
    return f"a_session_{project_id}"


def session_cookie(header: str, project_id: str) -> str:
    """The session in a `cookie` header, or in its twin for old browsers; `""` if there is none.

    Read leniently: the CLI replays a whole Set-Cookie line, with attributes, a value-less one and a date with a
    comma (contract: clients 5.2).
    """
    name = cookie_name(project_id)
    if name not in header:
        return ""
    legacy = ""
    for part in header.split(";"):
        key, _, value = part.partition("=")
        key = key.strip()
        if key == name and value.strip():
            return value.strip().strip('"')
        if key == f"{name}_legacy":
            legacy = legacy or value.strip().strip('"')
    return legacy


def fallback_session(header: str, project_id: str) -> str:
    """The session in an `x-fallback-cookies` header, `""` if there is none (contract: clients 6)."""
    if not header or len(header) > 4 * _TEXT_MAX_CHARS:
        return ""
    try:
        cookies = msgspec.json.decode(header.encode("latin-1", "replace"))
    except ValueError:
        return ""
    value = cookies.get(cookie_name(project_id)) if isinstance(cookies, dict) else None
    return value if isinstance(value, str) else ""

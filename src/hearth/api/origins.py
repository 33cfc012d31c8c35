"""Browser origins: which may call, and the CORS headers they get (contract: functions-api 1 check 3, 2; clients 6)."""

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from hearth.api.messages import RawHeader, Request

_ALLOWED_HEADERS = ", ".join(
    (
        *("accept", "accept-language", "authorization", "cache-control", "content-type", "content-range", "cookie"),
        *("origin", "range", "x-requested-with", "x-fallback-cookies", "x-forwarded-for", "x-forwarded-user-agent"),
        *("x-appwrite-project", "x-appwrite-key", "x-appwrite-dev-key", "x-appwrite-session", "x-appwrite-jwt"),
        *("x-appwrite-mode", "x-appwrite-locale", "x-appwrite-response-format", "x-appwrite-id"),
        *("x-appwrite-timestamp", "x-appwrite-user", "x-appwrite-organization", "x-appwrite-impersonate-user-id"),
        *("x-appwrite-impersonate-user-email", "x-appwrite-impersonate-user-phone", "x-sdk-name", "x-sdk-platform"),
        *("x-sdk-language", "x-sdk-version", "x-sdk-graphql", "idempotency-key", "x-hearth-build-cache"),
    )
).encode()
_FIXED: list[RawHeader] = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", _ALLOWED_HEADERS),
    (
        b"access-control-expose-headers",
        b"X-Appwrite-Session, X-Fallback-Cookies, X-Appwrite-Warning, Idempotency-Replayed",
    ),
    (b"access-control-allow-credentials", b"true"),
    (b"vary", b"origin"),
]


def is_allowed(origin: str, host: str, registered: frozenset[str]) -> bool:
    """Whether pages of `origin` may call: loopback, the origin the request itself was sent to, or a registered host."""
    return origin_allowed(origin, registered) or (host != "" and _authority(origin) == host.lower())


@lru_cache(maxsize=1_024)
def origin_allowed(origin: str, registered: frozenset[str]) -> bool:
    """The part of `is_allowed` that does not depend on the request."""
    host = _host(origin)
    return host in registered or _is_loopback(host) or any(_covers(name, host) for name in registered)


def cors_headers(request: Request, registered: frozenset[str]) -> list[RawHeader]:
    """The CORS headers of an answer: the exact origin, never `*`, because browsers send credentials."""
    origin = request.headers.get(b"origin")
    if origin is None:
        return []
    text = origin.decode("latin-1")
    if not is_allowed(text, request.header(b"host"), registered):
        return []
    return [(b"access-control-allow-origin", origin), *_FIXED]


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host(origin: str) -> str:
    try:
        return (urlsplit(origin).hostname or "").lower()
    except ValueError:
        return ""


def _covers(name: str, host: str) -> bool:
    """Whether `*.example.com` stands for a host. No name stands for all: pages send the session along."""
    return name.startswith("*.") and host.endswith(name[1:])


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

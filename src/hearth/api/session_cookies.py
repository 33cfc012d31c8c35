"""What a browser is given of a session: two cookies and a header for where cookies are refused (contract: 5.2)."""

from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import urlsplit

import msgspec

from hearth.api.messages import RawHeader, Request
from hearth.auth.sessions import cookie_name

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def opening(request: Request, project_id: str, text: str, expires_at: datetime) -> list[RawHeader]:
    """The headers that hand a new session to its client. The line with the cookie's own name comes first."""
    name = cookie_name(project_id)
    headers = _cookies(request, name, text, expires_at)
    if not _cookies_arrive(request):
        headers.append((b"x-fallback-cookies", msgspec.json.encode({name: text})))
    return headers


def closing(request: Request, project_id: str) -> list[RawHeader]:
    """The headers that take a session from its client."""
    headers = _cookies(request, cookie_name(project_id), "", _LONG_AGO)
    if not _cookies_arrive(request):
        headers.append((b"x-fallback-cookies", b"{}"))
    return headers


def _cookies(request: Request, name: str, value: str, expires_at: datetime) -> list[RawHeader]:
    expires = format_datetime(expires_at.replace(microsecond=0), usegmt=True)
    secure = "; secure" if request.scope.get("scheme") == "https" else ""
    attributes = f"expires={expires}; path=/{secure}; httponly"
    # Browsers of before 2020 drop a cookie whose SameSite they do not know: those keep the second one.
    return [
        (b"set-cookie", f"{name}={value}; {attributes}; samesite=None".encode("latin-1")),
        (b"set-cookie", f"{name}_legacy={value}; {attributes}".encode("latin-1")),
    ]


def _cookies_arrive(request: Request) -> bool:
    """Whether a browser will send our cookies back: the page is of our own host."""
    origin = request.header(b"origin")
    try:
        page = urlsplit(origin).hostname
        ours = urlsplit(f"//{request.header(b'host')}").hostname
    except ValueError:
        return False
    return bool(page) and page == ours

"""What a handler is given: `req` and `res` (contract: runtime-contract 2 and 3). Python >= 3.9."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Output = dict[str, Any]
    Headers = dict[str, str | list[str]]

    from hearth.runtimes.shims.python.hearth_json import decode, encode
else:
    from hearth_json import decode, encode

INTERNAL = "x-open-runtimes-"


class Request:
    """The request as the handler sees it. Everything is computed when it is asked for."""

    def __init__(self, frame: Mapping[str, Any], body: bytes, enforced: Mapping[str, str]) -> None:
        self._frame = frame
        self._enforced = enforced
        self._headers: dict[str, str] | None = None
        self._address: tuple[str, str, str, int] | None = None
        self.body_binary = body

    @property
    def body_text(self) -> str:
        return self.body_binary.decode("utf-8")

    @property
    def body_json(self) -> Any:
        return decode(self.body_text)

    @property
    def body_raw(self) -> str:
        return self.body_text

    @property
    def body(self) -> Any:
        kind = self._raw("content-type") or "text/plain"
        if not kind.lower().startswith("application/json"):
            return self.body_binary.decode("utf-8", "replace")
        return self.body_json if self.body_binary else {}

    @property
    def headers(self) -> dict[str, str]:
        if self._headers is None:
            lowered = ((name.lower(), value) for name, value in self._frame["headers"].items())
            self._headers = {name: value for name, value in lowered if not name.startswith(INTERNAL)}
            self._headers.update(self._enforced)
        return self._headers

    @property
    def method(self) -> str:
        method: str = self._frame["method"]
        return method.upper()

    @property
    def scheme(self) -> str:
        return self._raw("x-forwarded-proto") or "http"

    @property
    def host(self) -> str:
        return self._parts()[2]

    @property
    def port(self) -> int:
        return self._parts()[3]

    @property
    def path(self) -> str:
        return self._parts()[0]

    @property
    def query_string(self) -> str:
        return self._parts()[1]

    @property
    def query(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.query_string.split("&"))
        return {key: value for key, _, value in pairs if key}

    @property
    def url(self) -> str:
        path, query_string, host, port = self._parts()
        scheme = self.scheme
        port_text = "" if port == _default_port(scheme) else f":{port}"
        return f"{scheme}://{host}{port_text}{path}{'?' + query_string if query_string else ''}"

    def _raw(self, name: str) -> str | None:
        headers: Mapping[str, str] = self._frame["headers"]
        if name in headers:
            return headers[name]
        return next((value for key, value in headers.items() if key.lower() == name), None)

    def _parts(self) -> tuple[str, str, str, int]:
        if self._address is None:
            target: str = self._frame["path"]
            path, _, query_string = target.partition("#")[0].partition("?")
            host, _, port_text = (self._raw("host") or "").partition(":")
            port = int(port_text) if port_text.isdigit() else _default_port(self.scheme)
            self._address = (path, query_string, host, port)
        return self._address


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


class Response:
    """Builders of results; a result takes effect only if the handler returns it."""

    def binary(self, bytes: Any, statusCode: int = 200, headers: Mapping[str, Any] | None = None) -> Output:
        return {"body": to_bytes(bytes), "statusCode": statusCode, "headers": headers or {}}

    def text(self, body: Any, statusCode: int = 200, headers: Mapping[str, Any] | None = None) -> Output:
        return {"body": to_bytes(body), "statusCode": statusCode, "headers": headers or {}}

    def send(self, body: Any, statusCode: int = 200, headers: Mapping[str, Any] | None = None) -> Output:
        return {"body": to_bytes(body), "statusCode": statusCode, "headers": headers or {}}

    def json(self, obj: Any, statusCode: int = 200, headers: Mapping[str, Any] | None = None) -> Output:
        typed = {**(headers or {}), "content-type": "application/json"}
        return {"body": encode(obj).encode(), "statusCode": statusCode, "headers": typed}

    def stream(self, source: Any, statusCode: int = 200, headers: Mapping[str, Any] | None = None) -> Output:
        return {"stream": source, "statusCode": statusCode, "headers": headers or {}}

    def empty(self) -> Output:
        return {"body": b"", "statusCode": 204, "headers": {}}

    def redirect(self, url: str, statusCode: int = 301, headers: Mapping[str, Any] | None = None) -> Output:
        return {"body": b"", "statusCode": statusCode, "headers": {**(headers or {}), "location": url}}


def to_bytes(value: Any) -> bytes:
    """The bytes of a body: bytes-like and lists of numbers as they are, anything else as UTF-8 text."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if value is None:
        return b""
    if isinstance(value, (bytearray, memoryview, list)):
        return bytes(value)
    return str(value).encode("utf-8", "replace")


_DEFAULT_HEADERS: Headers = {"content-type": "text/plain; charset=utf-8"}


def response_headers(given: Mapping[Any, Any] | None) -> Headers:
    """Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3)."""
    if not given:
        return _DEFAULT_HEADERS
    headers: Headers = {}
    for key, value in given.items():
        name = str(key).lower()
        if name.startswith(INTERNAL) or value is None:
            continue
        headers[name] = [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value)
    kind = headers.get("content-type", "text/plain")
    kind = kind if isinstance(kind, str) else ", ".join(kind)
    lower = kind.lower()
    if lower.startswith("multipart/"):
        headers["content-type"] = kind  # a boundary is case-sensitive
    else:
        headers["content-type"] = lower if "charset=" in lower else f"{lower}; charset=utf-8"
    return headers

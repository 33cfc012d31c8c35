"""The headers a function answered with, as far as they may leave the executor."""

import re

import msgspec

from hearth.executor.protocol import ProtocolError
from hearth.model.headers import KEPT_MAX, TEXT_MAX_BYTES, Kept, KnownPairs
from hearth.model.resources import Header

#: Response headers between a runtime and its executor; they never leave it (contract: functions-api 10.3).
INTERNAL = "x-open-runtimes-"
HEADERS_MAX = 500
HEADERS_MAX_BYTES = 64 * 1024

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
#: Anything a field value must not hold: control characters but the tab (RFC 9110, 5.5).
_BAD_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_decode = msgspec.json.Decoder(dict[str, str | list[str]]).decode
#: Instances keep few: what one answers with says nothing about another.
_KEPT_MAX = KEPT_MAX // 16


class CheckedHeaders(msgspec.Struct, frozen=True):
    """What may leave the executor, and a line for the errors of the execution for each header that may not."""

    pairs: KnownPairs
    dropped: tuple[bytes, ...] = ()


NO_HEADERS = CheckedHeaders(KnownPairs())


class ResponseHeaders:
    """Reads the headers of one instance's answers, and knows those again that it has answered with before."""

    def __init__(self) -> None:
        self._kept: Kept[bytes, CheckedHeaders] = Kept(check, _KEPT_MAX)

    def read(self, raw: msgspec.Raw) -> CheckedHeaders:
        """The headers in a piece of JSON. Raises ProtocolError for one that says something else."""
        text = bytes(raw)
        return self._kept.of(text) if len(text) <= TEXT_MAX_BYTES else check(text)


def check(text: bytes) -> CheckedHeaders:
    """The same, without memory."""
    try:
        given = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise ProtocolError(f"headers that are none: {problem}") from problem
    kept: list[Header] = []
    dropped: list[bytes] = []
    size = 0
    for name, values in given.items():
        if name.startswith(INTERNAL):
            continue
        for value in values if isinstance(values, list) else (values,):
            size += len(name) + len(value)
            if _HEADER_NAME.fullmatch(name) is None or _BAD_IN_VALUE.search(value) is not None:
                shown = ascii(name[:100])
                dropped.append(f"Response header {shown} was dropped: it has a forbidden character.\n".encode())
            elif len(kept) == HEADERS_MAX or size > HEADERS_MAX_BYTES:
                limits = f"{HEADERS_MAX} headers or {HEADERS_MAX_BYTES} bytes"
                dropped.append(f"Response headers were dropped: more than {limits}.\n".encode())
                return CheckedHeaders(KnownPairs(kept), tuple(dropped))
            else:
                kept.append((name, value))
    return CheckedHeaders(KnownPairs(kept), tuple(dropped))

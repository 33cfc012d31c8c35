"""JSON by the C half of the standard library: the other half imports `re` and `enum`, 5 ms of each start.

What this half cannot do or finds wrong is done again by `json`, for its result or its error. Python >= 3.9.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    make_encoder: Any
    make_scanner: Any
    from _json import encode_basestring, encode_basestring_ascii
else:
    try:
        from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:  # an interpreter that has none
        make_encoder = make_scanner = None

WHITE = " \t\n\r"


class _Rules:
    """How the scanner of `json.loads` reads."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        return {"-Infinity": -float("inf"), "Infinity": float("inf"), "NaN": float("nan")}[name]


def encoder(ensure_ascii: bool = True, default: Callable[[Any], Any] | None = None) -> Callable[[Any], str]:
    """What `json.JSONEncoder(separators=(",", ":"), ...).encode` does, with the same errors."""
    if make_encoder is None:
        import json

        return json.JSONEncoder(separators=(",", ":"), ensure_ascii=ensure_ascii, default=default).encode
    to_text = encode_basestring_ascii if ensure_ascii else encode_basestring
    other = default or _refuse

    def encode(value: Any) -> str:
        if isinstance(value, str):
            return to_text(value)
        return "".join(make_encoder({}, other, to_text, None, ":", ",", False, False, True)(value, 0))

    return encode


def _refuse(value: Any) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _decoder() -> Callable[[str], Any]:
    if make_scanner is None:
        import json

        return json.loads
    scan = make_scanner(_Rules)

    def decode(text: str) -> Any:
        start = len(text) - len(text.lstrip(WHITE))
        try:
            value, end = scan(text, start)
            if not text[end:].strip(WHITE):
                return value
        except (StopIteration, ValueError, SystemError):
            pass  # SystemError: it has found a fault and looks for the error's class in `json`, which is not imported
        import json

        return json.loads(text)

    return decode


encode = encoder()
decode = _decoder()
"""What `json.loads` does with a text."""

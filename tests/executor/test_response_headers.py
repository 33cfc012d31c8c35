"""What of a function's response headers leaves the executor."""

import msgspec
import pytest

from hearth.executor.protocol import ProtocolError
from hearth.executor.response_headers import HEADERS_MAX, ResponseHeaders
from hearth.model.headers import TEXT_MAX_BYTES


def raw(headers: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(headers))


def test_what_is_answered_again_is_known_again() -> None:
    headers = ResponseHeaders()
    first, again = headers.read(raw({"a": "b", "c": ["d", "e"]})), headers.read(raw({"a": "b", "c": ["d", "e"]}))
    assert tuple(first.pairs) == (("a", "b"), ("c", "d"), ("c", "e"))
    assert again is first
    assert headers.read(raw({"a": "c"})).pairs != first.pairs


def test_long_headers_are_read_and_not_kept() -> None:
    headers, long = ResponseHeaders(), raw({"a": "x" * TEXT_MAX_BYTES})
    assert headers.read(long) is not headers.read(long)
    assert tuple(headers.read(long).pairs) == (("a", "x" * TEXT_MAX_BYTES),)


def test_each_header_that_may_not_leave_is_named() -> None:
    given = {"good": "1", "bad name": "2", "bad-value": "a\nb", "x-open-runtimes-log-id": "3"}
    checked = ResponseHeaders().read(raw(given))
    assert tuple(checked.pairs) == (("good", "1"),)
    assert [line.split()[2] for line in checked.dropped] == [b"'bad", b"'bad-value'"]


def test_too_many_headers_are_cut_off() -> None:
    checked = ResponseHeaders().read(raw({f"h{number}": "" for number in range(HEADERS_MAX + 2)}))
    assert len(checked.pairs) == HEADERS_MAX
    assert len(checked.dropped) == 1


@pytest.mark.parametrize("text", [b"[]", b'{"a":1}', b'{"a":"\xff"}', b"null", b'{"a":["b",2]}'])
def test_what_is_no_headers_breaks_the_protocol(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        ResponseHeaders().read(msgspec.Raw(text))

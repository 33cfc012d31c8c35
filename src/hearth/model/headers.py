"""Headers that come again and again: read once, known again, and what follows from them kept beside them.

A function's callers send it the same headers with every request, and it answers with the same ones. Whoever reads them
keeps what he has read by its bytes; whoever works on it later keeps his work by the object (`Kept`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from hearth.model.resources import Header

EXECUTION_ID = "x-appwrite-execution-id"
#: Longest text of headers that is kept by its bytes, and how many are kept of one kind.
TEXT_MAX_BYTES = 4 * 1024
KEPT_MAX = 1_024

_K = TypeVar("_K")
_V = TypeVar("_V")


class KnownHeaders(dict[str, str]):
    """Headers of requests that may come again. Never changed, and told apart by which object it is."""

    __slots__ = ()
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is not KnownHeaders and dict.__eq__(self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other


class KnownPairs(tuple[Header, ...]):
    """Headers of answers that may come again, told apart by which object it is."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is not KnownPairs and tuple.__eq__(self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other


class Kept(Generic[_K, _V]):
    """What `work` makes of a key, at most `most` of them: dropped whole when it is full, as it is soon made again."""

    __slots__ = ("_known", "_most", "_work")

    def __init__(self, work: Callable[[_K], _V], most: int = KEPT_MAX) -> None:
        self._work = work
        self._most = most
        self._known: dict[_K, _V] = {}

    def of(self, key: _K) -> _V:
        """What was made of this key, now or before. Raises what `work` raises, which is not kept."""
        try:
            return self._known[key]
        except KeyError:
            made = self._work(key)
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[key] = made
            return made


class CommonHeaders(msgspec.Struct, frozen=True):
    """What a function is given with each of many runs: all its headers but the one that names the run."""

    values: Mapping[str, str]
    stored: KnownPairs
    """Those that are part of the record."""
    encoded: bytes
    """`values` as a JSON object without its end."""

    @classmethod
    def of(cls, values: Mapping[str, str], stored: Sequence[Header]) -> "CommonHeaders":
        """Encode headers, of which there is at least one. Raises UnicodeEncodeError for text that UTF-8 cannot hold."""
        return cls(values, KnownPairs(stored), msgspec.json.encode(values)[:-1] + b',"%b":"' % EXECUTION_ID.encode())


class RunHeaders(Mapping[str, str]):
    """The headers of one run: those it has in common with others, and its id, which is plain text."""

    __slots__ = ("_common", "_id")

    def __init__(self, common: CommonHeaders, id: str) -> None:
        self._common = common
        self._id = id

    def encoded(self) -> bytes:
        """All of them as a JSON object."""
        return b'%b%b"}' % (self._common.encoded, self._id.encode())

    def __getitem__(self, name: str) -> str:
        return self._id if name == EXECUTION_ID else self._common.values[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._common.values
        yield EXECUTION_ID

    def __len__(self) -> int:
        return len(self._common.values) + 1

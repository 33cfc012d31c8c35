"""The response that a function streams, on its way to the one who asked for it."""

import asyncio
from collections import deque
from collections.abc import Callable

from hearth.model.bodies import Body, BodyCopy
from hearth.model.resources import Execution, Header
from hearth.model.streaming import StreamControl

#: The reason in the record of a function that was stopped because nobody read on.
LEFT = "The client left before the response had ended, so the function was stopped."


class StreamBroken(Exception):
    """A streamed response did not come to its end; its reader must not take it for complete."""


_NONE: deque[bytes] = deque(maxlen=0)
_NOBODY_WAITS = asyncio.Event()


def _not_told() -> None:
    """Nobody wants to know that a stream has begun."""


class ResponseStream:
    """Implements `model.streaming.StreamReceiver`, and is an async iterator over the body for one reader.

    The reader takes a piece when the one before has left, which is what lets the function send more, and calls
    `aclose` whatever happens. The iteration ends, or raises StreamBroken, when the execution has been recorded.
    """

    def __init__(self, copy: BodyCopy | None = None) -> None:
        """`copy` is given every piece as well."""
        self._copy = copy
        self.begun: Callable[[], None] = _not_told
        """Called once the head is there."""
        self.status_code = 0
        self.headers: tuple[Header, ...] = ()
        self.final: Execution | None = None
        """The recorded execution, once the iteration is over; None if it could not be recorded."""
        self._control: StreamControl | None = None
        self._pieces: deque[bytes] = _NONE
        self._on_its_way = 0
        """Bytes the reader has been given and not yet come back from."""
        self._is_broken = False
        self._is_over = False
        self._news: asyncio.Event = _NOBODY_WAITS

    @property
    def has_begun(self) -> bool:
        """Whether the function streams its response at all, as far as is known."""
        return self._control is not None

    def on_begin(self, status_code: int, headers: tuple[Header, ...], control: StreamControl) -> None:
        """The head has come. For the executor."""
        # Most functions stream nothing, and are asked whether they do: what a stream needs is made only here.
        self._pieces, self._news = deque(), asyncio.Event()
        self.status_code, self.headers, self._control = status_code, headers, control
        self.begun()

    def on_body(self, piece: bytes) -> None:
        """A piece has come; the executor's window bounds what is held here. For the executor."""
        self._pieces.append(piece)
        if self._copy is not None:
            self._copy.add(piece)
        self._news.set()

    def copied(self) -> Body | None:
        """What the copy holds; None without one."""
        return None if self._copy is None else self._copy.body()

    def end(self, final: Execution | None, *, is_broken: bool) -> None:
        """The execution is over, and recorded as `final` (None = that failed)."""
        self.final, self._is_broken, self._is_over = final, is_broken, True
        self.let_go()
        if self._control is not None:
            self._news.set()

    def let_go(self) -> None:
        """Nothing will begin any more: whoever was to be told is not held longer, as he holds this."""
        self.begun = _not_told

    def __aiter__(self) -> "ResponseStream":
        return self

    async def __anext__(self) -> bytes:
        if self._on_its_way and self._control is not None:
            self._control.consumed(self._on_its_way)
            self._on_its_way = 0
        while not self._pieces:
            if self._is_over:
                if self._is_broken:
                    raise StreamBroken
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        piece = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._on_its_way = len(piece)
        return piece

    async def aclose(self) -> None:
        """The reader takes nothing more: a function that still streams is stopped. Fine to call twice."""
        self.abort(LEFT)

    def abort(self, reason: str) -> None:
        """Stop a function that still streams, for this reason."""
        if not self._is_over and self._control is not None:
            self._control.abort(reason)

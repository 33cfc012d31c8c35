"""Futures that tell whoever asks for it at once, in the step of the event loop that completes them.

A future's own callbacks run in a later step. An execution has three on its way; each would cost it a round of the loop
and what one tick brings would no longer be written together. They are no `asyncio.Future`, whose making alone costs a
system call in Python 3.11 (which loop runs in which process?), but are awaited like one.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, Union

T = TypeVar("T")

_OPEN, _DONE, _FAILED, _CANCELLED = range(4)


class PromptFuture(Generic[T]):
    """A future with callbacks that run at once. Used in one event loop; an exception nobody asks for is not logged."""

    __slots__ = ("_callbacks", "_state", "_value")

    def __init__(self) -> None:
        self._state = _OPEN
        self._value: Any = None
        self._callbacks: Any = None
        """None, the one callback (as nearly always), or a list of them."""

    def __await__(self) -> Generator[Any, None, T]:
        """Wait; a wait that is cancelled cancels this, as with any future."""
        if self._state == _OPEN:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake(_: object) -> None:
                if not waiting.done():
                    waiting.set_result(None)

            self.on_done(wake)
            try:
                yield from waiting
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.result()

    def done(self) -> bool:
        """Whether there is a result, an exception, or a cancellation."""
        return self._state != _OPEN

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state == _CANCELLED

    def result(self) -> T:
        """The result. Raises the exception, CancelledError, or InvalidStateError where it is not done."""
        if self._state == _DONE:
            value: T = self._value
            return value
        if self._state == _FAILED:
            raise self._value
        raise asyncio.CancelledError if self._state == _CANCELLED else asyncio.InvalidStateError("not done")

    def exception(self) -> BaseException | None:
        """The exception, None with a result. Raises CancelledError, or InvalidStateError where it is not done."""
        if self._state == _DONE:
            return None
        if self._state == _FAILED:
            failure: BaseException = self._value
            return failure
        raise asyncio.CancelledError if self._state == _CANCELLED else asyncio.InvalidStateError("not done")

    def on_done(self, callback: "Callable[[PromptFuture[T]], object]") -> None:
        """Call `callback` with this future as soon as it is done: now, if it is. What it raises is logged."""
        if self._state != _OPEN:
            self._tell(callback)
        elif self._callbacks is None:
            self._callbacks = callback
        elif type(self._callbacks) is list:
            self._callbacks.append(callback)
        else:
            self._callbacks = [self._callbacks, callback]

    def set_result(self, result: T, /) -> None:
        """It is done. Raises InvalidStateError if it was already."""
        if self._state != _OPEN:
            raise asyncio.InvalidStateError("done already")
        self._state = _DONE
        self._value = result
        callback = self._callbacks
        if callback is None:
            return
        self._callbacks = None
        if type(callback) is list:
            self._tell(callback)
            return
        try:
            callback(self)
        except Exception as problem:  # noqa: BLE001 - as in `_tell`, which the hot path does without
            self._report(callback, problem)

    def set_exception(self, exception: BaseException, /) -> None:
        """It is done, with a failure. Raises InvalidStateError if it was already."""
        if self._state != _OPEN:
            raise asyncio.InvalidStateError("done already")
        self._state = _FAILED
        self._value = exception
        self._tell_all()

    def cancel(self) -> bool:
        """Whoever waited does not any more; False if it was done already."""
        if self._state != _OPEN:
            return False
        self._state = _CANCELLED
        self._tell_all()
        return True

    def _tell_all(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            self._tell(callbacks)

    def _tell(self, callbacks: Any) -> None:
        if type(callbacks) is list:
            for callback in callbacks:
                self._tell(callback)
            return
        try:
            callbacks(self)
        except Exception as problem:  # noqa: BLE001 - as with other callbacks, whoever completes it does not suffer
            self._report(callbacks, problem)

    def _report(self, callback: Any, problem: Exception) -> None:
        context = {"message": f"Exception in {callback!r}", "exception": problem, "future": self}
        asyncio.get_running_loop().call_exception_handler(context)


Pending = Union[PromptFuture[T], "asyncio.Future[T]"]
"""Something that will be done; it can be awaited, asked and cancelled."""


def follow(future: Pending[T], callback: Callable[[Any], object]) -> None:
    """Call `callback` with `future` once it is done; at once, if it can tell at once."""
    if type(future) is PromptFuture or isinstance(future, PromptFuture):
        future.on_done(callback)
    else:
        future.add_done_callback(callback)

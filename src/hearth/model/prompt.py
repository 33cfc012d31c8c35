"""Futures that tell whoever asks for it at once, in the step of the event loop that completes them.

A future's own callbacks run in a later step. An execution has three on its way; each would cost it a round of the loop
and what one tick brings would no longer be written together.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PromptFuture(asyncio.Future[T]):
    """A future with callbacks that run at once. Awaiting it, and its other callbacks, are as with any future."""

    __slots__ = ("_prompt",)

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._prompt: list[Callable[[Any], object]] = []

    def on_done(self, callback: Callable[["asyncio.Future[T]"], object]) -> None:
        """Call `callback` with this future as soon as it is done: now, if it is. What it raises is logged."""
        if self.done():
            self._tell(callback)
        else:
            self._prompt.append(callback)

    def set_result(self, result: T, /) -> None:
        super().set_result(result)
        self._tell_all()

    def set_exception(self, exception: type | BaseException, /) -> None:
        super().set_exception(exception)
        self._tell_all()

    def cancel(self, msg: Any | None = None) -> bool:
        was_open = super().cancel(msg)
        if was_open:
            self._tell_all()
        return was_open

    def _tell_all(self) -> None:
        callbacks, self._prompt = self._prompt, []
        for callback in callbacks:
            self._tell(callback)

    def _tell(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except Exception as problem:  # noqa: BLE001 - as with other callbacks, whoever completes it does not suffer
            context = {"message": f"Exception in {callback!r}", "exception": problem, "future": self}
            self.get_loop().call_exception_handler(context)


def follow(future: "asyncio.Future[T]", callback: Callable[["asyncio.Future[T]"], object]) -> None:
    """Call `callback` with `future` once it is done; at once, if it can tell at once."""
    if isinstance(future, PromptFuture):
        future.on_done(callback)
    else:
        future.add_done_callback(callback)

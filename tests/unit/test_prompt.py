"""Futures that tell at once: in the step that completes them, in order, whatever a callback does."""

import asyncio
from typing import Any

import pytest

from hearth.model.prompt import PromptFuture, follow

pytestmark = pytest.mark.anyio


async def test_it_tells_in_the_step_that_completes_it() -> None:
    future: PromptFuture[int] = PromptFuture()
    told: list[Any] = []
    future.on_done(lambda done: told.append(("first", done.result())))
    follow(future, lambda done: told.append(("second", done.result())))
    future.set_result(1)
    assert told == [("first", 1), ("second", 1)]
    assert await future == 1


async def test_whoever_awaits_gets_the_exception() -> None:
    future: PromptFuture[int] = PromptFuture()
    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("x"))
    with pytest.raises(KeyError):
        await future


async def test_it_is_done_once() -> None:
    future: PromptFuture[int] = PromptFuture()
    for ask in (future.result, future.exception):
        with pytest.raises(asyncio.InvalidStateError):
            ask()
    future.set_result(1)
    for end in (lambda: future.set_result(2), lambda: future.set_exception(KeyError())):
        with pytest.raises(asyncio.InvalidStateError):
            end()
    assert (future.cancel(), future.result(), future.exception()) == (False, 1, None)


async def test_who_asks_late_is_told_too() -> None:
    future: PromptFuture[int] = PromptFuture()
    future.set_exception(KeyError("x"))
    told: list[Any] = []
    follow(future, lambda done: told.append(type(done.exception())))
    assert told == [KeyError]


async def test_a_cancellation_is_told_once() -> None:
    future: PromptFuture[int] = PromptFuture()
    told: list[bool] = []
    follow(future, lambda done: told.append(done.cancelled()))
    assert (future.cancel(), future.cancel()) == (True, False)
    assert told == [True]


async def test_awaiting_is_as_with_any_future() -> None:
    future: PromptFuture[int] = PromptFuture()

    async def wait() -> int:
        return await future

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert future.cancelled()


async def test_a_callback_that_fails_disturbs_nobody() -> None:
    problems: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context["exception"]))
    future: PromptFuture[int] = PromptFuture()
    told: list[int] = []

    def fail(_: object) -> None:
        raise ValueError("mine")

    future.on_done(fail)
    future.on_done(lambda done: told.append(done.result()))
    future.set_result(1)
    loop.set_exception_handler(None)
    assert told == [1]
    assert [type(problem) for problem in problems] == [ValueError]


async def test_an_ordinary_future_is_followed_as_ever() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    told: list[int] = []
    follow(future, lambda done: told.append(done.result()))
    future.set_result(1)
    assert told == []
    await asyncio.sleep(0)
    assert told == [1]

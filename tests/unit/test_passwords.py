"""Passwords: checked off the loop, a bounded number at a time, and equally long whether there is anybody."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from hearth.auth.passwords import THREADS, WAITING_MAX, Passwords
from hearth.model.refusals import Busy

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class CountingHasher(PasswordHasher):
    """Cheap, counts verifications, and waits for `go` before each."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []
        self.go = threading.Event()
        self.go.set()

    def verify(self, hash: Any, password: Any) -> Any:
        assert self.go.wait(10)
        self.verified.append(hash)
        return super().verify(hash, password)


@pytest.fixture
async def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
async def passwords(hasher: CountingHasher) -> AsyncIterator[Passwords]:
    made = Passwords(hasher)
    yield made
    hasher.go.set()
    made.close()


async def test_the_right_password_is_accepted_and_no_other(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$")
    assert "correct" not in stored
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horsf")
    assert not await passwords.verify("not a hash", "correct horse")


async def test_nobody_is_verified_against_a_hash_too(passwords: Passwords, hasher: CountingHasher) -> None:
    """Otherwise the time of the answer would tell who has an account."""
    assert not await passwords.verify("", "anything")
    assert not await passwords.verify("", "anything")
    assert len(hasher.verified) == 2


async def test_a_flood_is_refused_instead_of_queued_without_end(passwords: Passwords, hasher: CountingHasher) -> None:
    stored = await passwords.hash("x")
    hasher.go.clear()
    waiting = [asyncio.create_task(passwords.verify(stored, "x")) for _ in range(THREADS + WAITING_MAX)]
    await asyncio.sleep(0)  # each of them begins
    with pytest.raises(Busy):
        await passwords.verify(stored, "x")
    hasher.go.set()
    assert all(await asyncio.gather(*waiting))
    assert await passwords.verify(stored, "x"), "room is given back"

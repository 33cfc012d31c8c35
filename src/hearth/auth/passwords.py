"""Passwords of people, argon2id (RFC 9106)."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hearth.model.refusals import Busy

T = TypeVar("T")

#: Passwords hashed at one time: each takes a core and 64 MiB for some 50 ms.
THREADS = 2
#: Passwords that may wait for a thread; more are refused, so that a flood of sign-ins costs the flooder only.
WAITING_MAX = 32

_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """The stored form, parameters included. Takes tens of milliseconds: run it in a thread."""
    return _hasher.hash(password)


def new_password() -> str:
    """A random password to be given to a person once (120 bits)."""
    return secrets.token_urlsafe(15)


class Passwords:
    """Hashes and verifies passwords off the event loop, a bounded number at a time.

    `hasher` sets the cost of new hashes; the defaults are RFC 9106's for machines with little memory.
    """

    def __init__(self, hasher: PasswordHasher = _hasher) -> None:
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
        self._waiting = 0
        self._nobody = ""

    async def hash(self, password: str) -> str:
        """The stored form, parameters included. Raises Busy."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, stored: str, password: str) -> bool:
        """Whether `password` is the one that was hashed as `stored`. Raises Busy.

        `""` (nobody, or somebody without a password) is always wrong and takes as long, so that the time of an
        answer does not tell who has an account.
        """
        if stored:
            return await self._run(self._matches, stored, password)
        if not self._nobody:
            self._nobody = await self._run(self._hasher.hash, new_password())
        await self._run(self._matches, self._nobody, password)
        return False

    def close(self) -> None:
        """End the threads; what they work on is finished first."""
        self._threads.shutdown(cancel_futures=True)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= THREADS + WAITING_MAX:
            raise Busy("too many passwords are being checked", limit="passwords")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1

"""What the two databases do differently, as one interface; implemented in `sqlite` and `postgres` only."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import Executable, Insert, Row, Table

from hearth.ports import ChangedElsewhere, MemoryKind
from hearth.store.sql.writes import Entry


class RecordWriter(Protocol):
    """Writes groups of entries, each group in one transaction.

    For each entry it says whether it took effect: the end of an attempt has none where the job was taken away.
    """

    def write_now(self, entries: Sequence[Entry]) -> list[bool] | None:
        """Commit at once, on the event loop, if that needs no waiting at all; None, and nothing done, if it would.

        Raises Conflict if something to be inserted is stored already and PlatformFault if the database fails;
        nothing of the group is written then.
        """

    async def write(self, entries: Sequence[Entry]) -> list[bool]:
        """Commit off the event loop, waiting for other writers. Raises as `write_now`."""


class Statements(Protocol):
    """An open transaction as a session sees it. A statement that was begun is waited for, also by who is cancelled."""

    async def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Run one statement and fetch all of its rows; none for one that has no rows to give.

        `values` are those of its parameters, for a statement that was made before they were known.
        """

    async def count(self, statement: Executable) -> int:
        """How many rows an UPDATE or DELETE touched."""


class Transaction(Statements, Protocol):
    """One that may write."""

    async def commit(self) -> None:
        """Make what was written last. Once begun it is waited for, also by who is cancelled."""


class Backend(Protocol):
    """One database. It connects on first use."""

    write_places: asyncio.Semaphore
    """How many write transactions may be open at once."""
    readers: int
    is_alone: bool
    """Whether no other server writes to the database."""
    records: RecordWriter

    def insert(self, table: Table) -> Insert:
        """An INSERT that writes nothing where a unique rule would be broken."""

    def view(self) -> AbstractAsyncContextManager[Statements]:
        """A read-only transaction on a snapshot; at most `readers` at once, which the caller sees to."""

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """A read-write transaction, rolled back in the end if it was not committed. The caller holds a write place."""

    async def enter(self, transaction: Statements, project_id: str) -> None:
        """Called first in a write transaction of a project: such transactions of one project follow each other."""

    async def announce_jobs(self, transaction: Statements) -> None:
        """Called last in a transaction that queued jobs: tell other processes, once it is committed."""

    async def announce_changes(
        self, transaction: Statements, project_id: str, functions: set[str], kinds: set[MemoryKind]
    ) -> None:
        """Called last in a transaction that changed what servers keep in memory: tell them, once it is committed."""

    def committed(self) -> None:
        """Called after each commit."""

    async def start(self, wake: Callable[[], None], heard: Callable[[ChangedElsewhere], None]) -> None:
        """Start what runs in the background.

        `wake` is to be called when another process queued jobs, `heard` with what servers changed.
        """

    async def close(self) -> None:
        """Stop the background work and disconnect."""

"""Transactions: opened, ended and kept whole under cancellation. Every statement of the store passes here.

A statement once sent is waited for even when its caller is cancelled; then the transaction is rolled back and
the connection goes back clean. So no connection is ever thrown away half-way through something.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from sqlalchemy import Executable, Row, Table

from hearth.model.refusals import PlatformFault
from hearth.ports import Clock, MemoryKind
from hearth.store.settling import settled
from hearth.store.sql.backend import Backend, Statements, Transaction
from hearth.store.sql.changes import kind_of
from hearth.store.sql.faults import database_errors, fault_of

T = TypeVar("T")

#: A transaction holds the only writer of SQLite, so a wait this long means that somebody never lets go
#: (or asks for a second transaction inside the first).
WAIT_S = 30.0


class Cipher(Protocol):
    """Seals values (`hearth.auth.secrets.VariableCipher`). `open` and `open_bytes` raise ValueError for a wrong key.

    To be used from any thread.
    """

    def seal(self, text: str, aad: bytes) -> bytes: ...
    def open(self, blob: bytes, aad: bytes) -> str: ...
    def seal_bytes(self, content: bytes, aad: bytes) -> bytes: ...
    def open_bytes(self, blob: bytes, aad: bytes) -> bytes: ...


@contextmanager
def translated(step: str) -> Iterator[None]:
    """Turn what a database raises into our fault, where it enters."""
    try:
        yield
    except database_errors() as error:
        raise fault_of(error, step) from error


@dataclass(slots=True)
class Session:
    """One open transaction. `project_id` is `""` outside a project."""

    statements: Statements
    backend: Backend
    clock: Clock
    cipher: Cipher
    project_id: str
    queued_jobs: bool = False
    changed_functions: set[str] = field(default_factory=set)
    """What other servers are to read again: ids, or `changes.EVERY`."""
    changed_kinds: set[MemoryKind] = field(default_factory=set)

    def own(self, project_id: str) -> None:
        """Raise ValueError if something of another project is about to be written in this unit."""
        if project_id != self.project_id:
            raise ValueError(f"a unit of project {self.project_id!r} was given something of {project_id!r}")

    async def execute(self, statement: Executable) -> None:
        """Run one statement. Raises PlatformFault."""
        await self.all(statement)

    async def one(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Row[Any] | None:
        """The first row, or None."""
        rows = await self.all(statement, values)
        return rows[0] if rows else None

    async def all(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Every row. `values` are those of the statement's parameters.

        A SELECT that is made once, with parameters (`bindparam`), costs a third of one that is made for each question.
        """
        self._note(statement)
        with translated("answer"):
            return await self.statements.rows(statement, values)

    async def count(self, statement: Executable) -> int:
        """How many rows an UPDATE or DELETE touched."""
        self._note(statement)
        with translated("answer"):
            return await self.statements.count(statement)

    async def insert(self, table: Table, values: dict[str, Any]) -> int | None:
        """Insert one row and return its sequence; None if a unique rule forbids it (and nothing happened)."""
        row = await self.one(self.backend.insert(table).values(values).returning(table.c.sequence))
        return None if row is None else int(row[0])

    def _note(self, statement: Executable) -> None:
        if (kind := kind_of(statement)) is not None:
            self.changed_kinds.add(kind)


class Transactions:
    """Opens sessions on one backend, within its number of connections."""

    def __init__(self, backend: Backend, clock: Clock, cipher: Cipher, on_jobs: Callable[[], None]) -> None:
        self._backend = backend
        self._clock = clock
        self._cipher = cipher
        self._on_jobs = on_jobs
        # Waiting happens here, where it can be cancelled and is fair; the engines' pools never wait.
        self._write_places = backend.write_places
        self._read_places = asyncio.Semaphore(backend.readers)
        self._turns = Turns()
        self.changes = 0
        """Counted also where one failed: it may have taken effect."""

    @asynccontextmanager
    async def begin(self, project_id: str = "") -> AsyncIterator[Session]:
        """A read-write transaction: committed on a clean exit, else rolled back.

        One that is cancelled in the middle of its commit is committed, and cancelled.
        """
        async with (
            self._turns.turn(project_id),
            within(self._write_places),
            _opened(self._backend.write()) as transaction,
        ):
            session = Session(transaction, self._backend, self._clock, self._cipher, project_id)
            if project_id:
                with translated("begin"):
                    await self._backend.enter(transaction, project_id)
            yield session
            with translated("commit"):
                if session.queued_jobs:
                    await self._backend.announce_jobs(transaction)
                if session.changed_functions or session.changed_kinds:
                    changed = project_id, session.changed_functions, session.changed_kinds
                    await self._backend.announce_changes(transaction, *changed)
                await settled(self._commit(transaction, jobs=session.queued_jobs))

    @asynccontextmanager
    async def view(self, project_id: str = "") -> AsyncIterator[Session]:
        """A read-only transaction on a consistent snapshot."""
        async with within(self._read_places), _opened(self._backend.view()) as statements:
            yield Session(statements, self._backend, self._clock, self._cipher, project_id)

    async def _commit(self, transaction: Transaction, *, jobs: bool) -> None:
        try:
            await transaction.commit()
        finally:
            self.changes += 1
        self._backend.committed()
        if jobs:
            self._on_jobs()


@asynccontextmanager
async def _opened(transaction: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Within a transaction. Raises PlatformFault where the database cannot be connected to."""
    with translated("connect"):
        statements = await transaction.__aenter__()
    try:
        yield statements
    finally:
        await transaction.__aexit__(None, None, None)


class Turns:
    """Lets the write transactions of one project follow each other within this process.

    Other processes are kept out by the database (`Backend.enter`), where waiting holds a connection and cannot
    be cancelled.
    """

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, project_id: str) -> AsyncIterator[None]:
        """Wait for the turn of this project; at once for what belongs to no project (`""`)."""
        if not project_id:
            yield
            return
        lock = self._locks.setdefault(project_id, asyncio.Lock())
        self._wanted[project_id] += 1
        try:
            async with within(lock):
                yield
        finally:
            self._wanted[project_id] -= 1
            if not self._wanted[project_id]:
                del self._wanted[project_id], self._locks[project_id]


@asynccontextmanager
async def within(place: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold a place, after waiting for it for a bounded time."""
    try:
        if isinstance(place, asyncio.Semaphore) and not place.locked():
            await place.acquire()  # which waits for nothing then; a lock that is free may have somebody waiting
        else:
            async with asyncio.timeout(WAIT_S):
                await place.acquire()
    except TimeoutError:
        raise PlatformFault(f"No database transaction became free within {WAIT_S:.0f} s") from None
    try:
        yield
    finally:
        place.release()

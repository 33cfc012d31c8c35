"""Rows that keep work and its failures: jobs, dead letters, attempts, idempotency keys, usage."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from hearth.model.bodies import Bodies, KeptResponse
from hearth.model.durability import Attempt, DeadLetter, IdempotencyKey
from hearth.model.queries import ListQuery
from hearth.model.resources import Job
from hearth.model.usage import UsageHour
from hearth.ports.rows import Page


class JobQueue(Protocol):
    """Durable queue entries, of all projects."""

    async def enqueue(self, job: Job) -> Job: ...
    async def get(self, id: str) -> Job | None: ...
    async def claim(self, owner: str, kinds: Iterable[str], limit: int, lease_s: float) -> tuple[Job, ...]:
        """Take up to `limit` due jobs, oldest due first: status, owner, lease and attempt are set."""

    async def claim_in_turn(self, owner: str, kind: str, limit: int, lease_s: float) -> tuple[Job, ...]:
        """`claim`, by projects in turn: those with the fewest claimed jobs of this kind come first."""

    async def renew(self, id: str, owner: str, lease_s: float) -> bool:
        """Extend a lease; False when the job is no longer ours (then stop working on it)."""

    async def finish(self, id: str, owner: str) -> bool:
        """End a claimed job as `done`; its payload is dropped."""

    async def fail(self, id: str, owner: str, error: str, retry_at: datetime | None) -> bool:
        """End a claimed job as `dead`, or queue it again for `retry_at`."""

    async def release(self, id: str, owner: str) -> bool:
        """Give a claimed job back untouched (orderly stop); the attempt does not count."""

    async def cancel_of(self, kind: str, resource_id: str) -> int:
        """End jobs of a resource that are not final, as `dead` with error `canceled`; returns how many."""

    async def expired(self, limit: int) -> tuple[Job, ...]:
        """Claimed jobs whose lease has run out, and any unfinished job past its deadline.

        A lease that ends further ahead than any lease may be is of a clock that was set back: it has run out too.
        """

    async def bring_forward(self, due_before: datetime) -> int:
        """Make every queued job due now that is due later than now and not after `due_before`; returns how many.

        For a clock that was set back: what was due by the old one must not wait for its time to come again.
        """

    async def reclaim(self, id: str, error: str, retry_at: datetime | None) -> bool:
        """The reaper's `fail`: whoever the owner was, provided the lease is (still) over or the deadline past."""

    async def unfinished(self) -> tuple[Job, ...]: ...
    async def next_due(self, kinds: Iterable[str]) -> datetime | None: ...
    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` ended jobs that were due before a time, and return how many went.

        Until then the id of an ended job is taken, so that an occasion is not queued twice.
        """


class DeadLetters(Protocol):
    """Dead letters of one project."""

    async def add(self, letter: DeadLetter) -> None:
        """Nothing happens if the execution has one already."""

    async def get(self, function_id: str, id: str) -> DeadLetter | None: ...
    async def list(self, function_id: str, query: ListQuery) -> Page[DeadLetter]: ...
    async def oldest(self, function_id: str, limit: int) -> tuple[DeadLetter, ...]:
        """The first `limit` of a function."""

    async def delete(self, function_id: str, id: str) -> bool: ...
    async def delete_of(self, function_id: str, limit: int) -> int:
        """Delete up to `limit` of a function and return how many went."""

    async def delete_before(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` made before a time and return how many went."""


class Attempts(Protocol):
    """Failed attempts at executions of one project."""

    async def add(self, attempt: Attempt) -> None:
        """Nothing happens if that attempt is noted already."""

    async def of(self, execution_id: str) -> tuple[Attempt, ...]:
        """Those of one execution, in order."""

    async def delete_before(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` that ended before a time and return how many went."""


class IdempotencyKeys(Protocol):
    """Keys of requests that are to be done once, of all projects. Each call is its own transaction."""

    async def begin(self, wanted: IdempotencyKey, expired: datetime) -> IdempotencyKey | None:
        """Store a key (its `answer` is ignored) and return None, or return the one that is there.

        One that was made not after `expired` is replaced. Of several at the same time one gets None.
        """

    async def take_over(self, mine: IdempotencyKey, seen: IdempotencyKey) -> bool:
        """Make `mine` the owner and lease of an unanswered key, if it still stands as it was `seen`."""

    async def finish(self, mine: IdempotencyKey, answer: str) -> None:
        """Note the answer; encrypted at rest."""

    async def forget(self, mine: IdempotencyKey) -> None:
        """Nothing was done: the key is free again."""

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` keys made before a time and return how many went."""


class Usage(Protocol):
    """Usage of functions of one project by the hour (`hearth.model.usage`)."""

    async def last(self, function_id: str) -> datetime | None:
        """The newest hour that is kept."""

    async def next_created(self, function_id: str, since: datetime) -> datetime | None:
        """When the first execution from a moment on was created; None if there is none."""

    async def count(self, function_id: str, since: datetime, until: datetime) -> tuple[UsageHour, ...]:
        """Count the executions created in a span by the hour, oldest first; hours without any are left out."""

    async def put(self, hours: Sequence[UsageHour]) -> None:
        """Keep hours; of two figures for one hour, the one that counted more stays."""

    async def list(self, function_id: str, since: datetime) -> tuple[UsageHour, ...]:
        """The hours kept from a moment on, oldest first."""

    async def delete_of(self, function_id: str, limit: int) -> int:
        """Delete up to `limit` hours of a function; returns how many."""

    async def delete_before(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` hours before a time, of all functions; returns how many."""


class ExecutionBodies(Protocol):
    """Kept requests and responses of executions of one project; encrypted at rest. They go with their executions."""

    async def get(self, function_id: str, execution_id: str) -> Bodies | None: ...
    async def response(self, function_id: str, execution_id: str) -> KeptResponse | None:
        """The response alone; None if none is kept."""

    async def delete(self, execution_id: str) -> bool: ...
    async def delete_before(self, function_id: str, before: datetime, limit: int) -> int:
        """Delete up to `limit` of a function that were kept before a time, oldest first; returns how many went."""

"""Deleting very many rows without being in anybody's way: small transactions, sized by the time the last ones took."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

#: How long one transaction of a sweep is to hold the writer, in seconds. A fifth of the 20 ms that it may be: rows
#: differ, and a busy machine stretches what was planned.
HELD_S = 0.004
#: Rows of one transaction: at first, and at most. Rows differ in size by a thousand times, so a sweep begins small.
FIRST_ROWS, MOST_ROWS = 8, 500
#: Seconds between two lines of the log about one long sweep.
_SAID_EVERY_S = 10.0

DeleteSome = Callable[[int], Awaitable[int]]
"""Deletes up to so many rows in one transaction and returns how many went."""


def next_size(size: int, held_s: float, least_s: float = 0.0, *, was_long: bool = False) -> int:
    """How many rows the next transaction takes, after one of `size` rows that took `held_s`.

    `least_s` is what a transaction takes whatever it deletes (on PostgreSQL several round trips), which fewer rows do
    not make less. Grows to double at most: the next rows may be larger than those seen so far. Shrinks to half, and
    by what was measured only if the one before `was_long` too: a busy machine holds up any.
    """
    rows_s = held_s - least_s
    fitting = size * 2 if rows_s <= 0 else int(size * HELD_S / rows_s)
    least_rows = 1 if was_long else size // 2
    return max(1, least_rows, min(fitting, size * 2, MOST_ROWS))


async def delete_all(delete_some: DeleteSome, what: str, *, first: int = FIRST_ROWS, **ids: str) -> int:
    """Call `delete_some` until nothing is left; returns how many rows went. May be cancelled between transactions.

    `first` is the size of the first transaction: 1 where a single row may be large.
    Between two transactions the writer is left to others for at least as long as it was held. `what` and `ids` are
    said in the log.
    """
    size, deleted = first, 0
    least, was_long = float("inf"), False
    begun = said = time.monotonic()
    while True:
        started = time.monotonic()
        went = await delete_some(size)
        held = time.monotonic() - started
        deleted += went
        if went < size:
            break
        if time.monotonic() - said >= _SAID_EVERY_S:
            said = time.monotonic()
            log.info("sweep goes on", what=what, deleted=deleted, **ids)
        least = min(least, held)
        size, was_long = next_size(size, held, least, was_long=was_long), held - least > HELD_S
        await asyncio.sleep(held)
    if deleted:
        log.info("swept", what=what, deleted=deleted, seconds=round(time.monotonic() - begun, 3), **ids)
    return deleted

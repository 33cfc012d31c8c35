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


def next_size(size: int, held_s: float) -> int:
    """How many rows the next transaction takes, after one of `size` rows that took `held_s`.

    Grows to double at most: the next rows may be larger than those seen so far.
    """
    if held_s <= 0:
        return min(size * 2, MOST_ROWS)
    return max(1, min(int(size * HELD_S / held_s), size * 2, MOST_ROWS))


async def delete_all(delete_some: DeleteSome, what: str, **ids: str) -> int:
    """Call `delete_some` until nothing is left; returns how many rows went. May be cancelled between transactions.

    Between two transactions the writer is left to others for at least as long as it was held. `what` and `ids` are
    said in the log.
    """
    size, deleted = FIRST_ROWS, 0
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
        size = next_size(size, held)
        await asyncio.sleep(held)
    if deleted:
        log.info("swept", what=what, deleted=deleted, seconds=round(time.monotonic() - begun, 3), **ids)
    return deleted

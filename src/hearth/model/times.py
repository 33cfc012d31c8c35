"""Points in time: UTC, millisecond precision, and their form on the wire (contract: functions-api 2)."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
#: Moments that are remembered in each form: a busy server meets the same millisecond many times.
_REMEMBERED = 256


def now() -> datetime:
    """The current time, UTC, cut to whole milliseconds (what the wire and the database can hold)."""
    return from_epoch_ms(time.time_ns() // 1_000_000)


def truncate(moment: datetime) -> datetime:
    """Cut `moment` to whole milliseconds, so that a stored value equals the one in memory."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@lru_cache(maxsize=_REMEMBERED)
def to_wire(moment: datetime) -> str:
    """`2026-11-24T05:38:00.123+00:00`, the only date form the API emits; `moment` is in UTC."""
    return moment.isoformat(timespec="milliseconds")


@lru_cache(maxsize=_REMEMBERED)
def to_epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970, the stored form."""
    return (moment - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=_REMEMBERED)
def from_epoch_ms(value: int) -> datetime:
    """The inverse of `to_epoch_ms`."""
    return datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)


def parse(text: str) -> datetime:
    """Read an ISO 8601 date; one without an offset is taken as UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

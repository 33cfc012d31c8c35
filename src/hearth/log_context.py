"""Which request, execution, deployment or job a line of the log is about.

What is bound here stands in every line that the same task, and what it starts, writes from then on. So a task that
outlives what it was started for binds anew, with `begin`.
"""

import re
from contextvars import Context

from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from hearth.model.ids import unique_id

#: What callers may send as the id of a request; anything else gets one of ours.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")


def begin(**ids: str) -> None:
    """From here on lines are about these ids (those that are not empty) and nothing else."""
    clear_contextvars()
    bind(**ids)


def bind(**ids: str) -> None:
    """From here on lines are about these ids (those that are not empty) too."""
    bind_contextvars(**{name: id for name, id in ids.items() if id})


def begin_request(given: bytes) -> str:
    """A request begins: its id, which is the caller's if he sent a good one."""
    id = given.decode() if _REQUEST_ID.match(given) else unique_id()
    bind_contextvars(request_id=id)
    return id


def request_id() -> str:
    """The id of the request that is being answered; a new one where there is none."""
    return get_contextvars().get("request_id") or unique_id()


def blank() -> Context:
    """The context for a task that belongs to nothing that goes on now."""
    return Context()

"""Bodies: the request and the response of an execution as they were, kept for functions that ask for it.

What the record of an execution shows of them is filtered and has no bodies; this is the whole of it, encrypted at rest.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import msgspec

from hearth.model.resources import Header
from hearth.model.statuses import Trigger


class Body(msgspec.Struct, frozen=True):
    """The beginning of a body, and what it was in full: `size` in bytes, `digest` its SHA-256 in hexadecimal.

    `digest` is `""` for one that is whole: it can be computed from `content`.
    """

    content: bytes = b""
    size: int = 0
    digest: str = ""

    @property
    def is_truncated(self) -> bool:
        """Whether `content` is not the whole body."""
        return self.size > len(self.content)

    def sha256(self) -> str:
        """The digest of the full body, in hexadecimal."""
        return self.digest or hashlib.sha256(self.content).hexdigest()


class KeptRequest(msgspec.Struct, frozen=True):
    """A request as its caller gave it, and who is behind it; nothing of what the platform adds to a run.

    `user_id` is whose execution it was, `real_user_id` whom the function was told of. `event` is the name of the event
    of an event run, else None.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body
    trigger: Trigger
    user_id: str = ""
    real_user_id: str = ""
    client_ip: str = ""
    event: str | None = None


class KeptResponse(msgspec.Struct, frozen=True):
    """What the function answered, with all of its headers."""

    status_code: int
    headers: tuple[Header, ...]
    body: Body

    def whole(self) -> bytes:
        """The body, empty if it is not kept as a whole."""
        return b"" if self.body.is_truncated else self.body.content


class Bodies(msgspec.Struct, frozen=True):
    """What is kept of one execution. `response` is None where the function gave none."""

    project_id: str
    function_id: str
    execution_id: str
    created_at: datetime
    request: KeptRequest
    response: KeptResponse | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        response = 0 if self.response is None else len(self.response.body.content)
        return len(self.request.body.content) + response + 2_048


def kept_body(content: bytes, limit: int) -> Body:
    """The first `limit` bytes of a body."""
    if len(content) <= limit:
        return Body(content, len(content))
    return Body(content[:limit], len(content), hashlib.sha256(content).hexdigest())


class BodyCopy:
    """Collects the first `limit` bytes of a body that passes by in pieces."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()
        self._size = 0
        self._hash = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """A further piece."""
        room = self._limit - len(self._content)
        if room > 0:
            self._content += piece[:room]
        self._size += len(piece)
        self._hash.update(piece)

    def body(self) -> Body:
        """What has passed by so far."""
        whole = self._size == len(self._content)
        return Body(bytes(self._content), self._size, "" if whole else self._hash.hexdigest())

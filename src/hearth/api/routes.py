"""What a route and a parameter are: the single source of the contract, for parsing, errors and documents.

The table itself is in `table`, one module per resource under `resources`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from hearth.api.call import Call


class Place(StrEnum):
    """Where a parameter is sent."""

    PATH = "path"
    QUERY = "query"
    BODY = "body"


class Body(StrEnum):
    """What a route does with a request body."""

    IGNORED = "ignored"
    FIELDS = "fields"
    """JSON (or a form), read into parameters before the handler runs."""
    RAW = "raw"
    """Any content, which the handler itself reads; parameters are in path and query."""
    UPLOAD = "upload"
    """A multipart form whose file the handler itself reads, as it streams in."""


class Validator(Protocol):
    """Checks one value and turns it into what control takes. Plain data, so documents can be made from it."""

    @property
    def text(self) -> str:
        """What is accepted, with limits and their units; shown to the caller after ``Invalid `name` param: ``."""

    def check(self, value: Any) -> Any:
        """The value for control. Raises `validators.Invalid`."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. `to` is the argument control takes it as; `""` = checked and not passed on.

    `nullable` says in documents that null is a value of its own; for any optional parameter null means `default`.
    """

    name: str
    place: Place
    validator: Validator
    description: str
    to: str
    required: bool = False
    default: Any = None
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the table needs to know of this server: ids of all runtimes, slugs on offer, and the operator's limits."""

    runtimes: tuple[str, ...]
    specifications: tuple[str, ...]
    function_timeout_max_s: int = 900
    execution_request_max_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AbuseRule:
    """At most `limit` calls per `window_s` seconds and `key` (made of `url`, `ip`, `user`) for callers not exempt.

    `url` holds the project too. The values of the body's `fields` are part of the key. `resets` = a call that
    succeeds begins the window anew, so that only failures are counted.
    """

    limit: int
    window_s: int
    key: str = "url:{url},ip:{ip}"
    fields: tuple[str, ...] = ()
    resets: bool = False


#: Bytes of a JSON body where the route does not say otherwise: every field of its parameters at its limit fits.
FIELDS_LIMIT_BYTES = 2 * 1024 * 1024

Handler = Callable[["Call"], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer of a route that is not its `model` as JSON with its `success` status.

    `model` is the name of the schema where the content is structured; `""` means text or bytes.
    """

    status: int
    content_types: tuple[str, ...]
    description: str
    model: str = ""


#: An error answer a route has of its own: its type, or its type and a status that is not the type's usual one.
Documented = str | tuple[str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    `aliases` are further (method, path) pairs of the same endpoint. One of `scopes` is enough. The handler returns
    the payload of `model`, sent with `success`, or an `Answer` of its own. `body_limit` is in bytes.

    For documents only: `description` says what `summary` has no room for, `replies` are the good answers besides the
    JSON of `model`, `refusals` the error answers of the route itself. What its scopes, parameters and limits imply
    (credentials, wrong values, rate limits, our faults) is derived and not named here.
    """

    name: str
    method: str
    path: str
    handler: Handler
    summary: str
    scopes: tuple[str, ...]
    params: tuple[Param, ...] = ()
    success: int = 200
    model: str = ""
    event: str = ""
    groups: frozenset[str] = frozenset({"api"})
    aliases: tuple[tuple[str, str], ...] = ()
    abuse: AbuseRule | None = None
    body: Body = Body.IGNORED
    body_limit: int = FIELDS_LIMIT_BYTES
    description: str = ""
    replies: tuple[Reply, ...] = ()
    refusals: tuple[Documented, ...] = ()
    scopes_text: str = field(init=False)
    service: str = field(init=False)
    """What a project switches off to switch this route off: the first segment of its path."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes_text", msgspec.json.encode(self.scopes).decode())
        object.__setattr__(self, "service", self.path.split("/")[2])

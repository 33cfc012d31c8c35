"""Refusals: documented error answers, one table. Raised by name; only the API layer turns one into JSON.

Three owners of a fault (style: whose fault is it?): the caller's is a `Refusal`, the function's is a
`Result` with its outcome, ours is a `PlatformFault`.
"""

from collections.abc import Mapping

from hearth.data import load

#: Statuses that are passed to the client as they are; any other becomes 500 (contract: functions-api 2).
PASSED_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 413, 416, 422, 429, 451, 501, 503})


class Refusal(Exception):
    """An error answer of the contract: `type`, HTTP `code`, and a message that says what to do.

    `headers` go out with the answer (`retry-after` and the like).
    """

    def __init__(self, type: str, message: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        entry = TYPES[type]
        self.type = type
        self.code = entry.code
        self.message = entry.message if message is None else message
        self.headers = dict(headers or {})
        super().__init__(f"{type}: {self.message}")


class PlatformFault(Exception):
    """Something of ours failed: answered 500, logged with its cause. The message is for the operator."""


class Busy(PlatformFault):
    """No instance came free in time; `limit` names the limit met, `retry_after_s` says when to come again.

    Its text is `message` with the limit.
    """

    def __init__(self, message: str, *, limit: str, retry_after_s: int = 1) -> None:
        self.limit = limit
        self.retry_after_s = retry_after_s
        super().__init__(f"{message.removesuffix('.')} (limit: {limit}).")


class Unavailable(PlatformFault):
    """No instance could be started (runtime not installed, machine out of resources, server stopping)."""

    retry_after_s = 5
    """When it is worth to try again: failed starts of a function are spaced out up to this."""


class StorageAway(PlatformFault):
    """Nothing can be stored or read at the moment; `reason` is for the caller: nothing was lost, he may come again."""

    def __init__(self, message: str, *, reason: str, retry_after_s: int = 5) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(message)


class RefusalType:
    """One row of the table: HTTP code and the message used where the raiser gives none."""

    __slots__ = ("code", "message")

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message


def _read_table() -> dict[str, RefusalType]:
    return {row["type"]: RefusalType(row["code"], row["message"]) for row in load("errors.json")["errors"]}


#: Every refusal this server may raise, by type.
TYPES: dict[str, RefusalType] = _read_table()


def invalid_param(name: str, text: str) -> Refusal:
    """The answer to a parameter with a bad value (contract: functions-api 1, check 19)."""
    return Refusal("general_argument_invalid", f"Invalid `{name}` param: {text}")


def missing_param(name: str) -> Refusal:
    """The answer to a mandatory parameter that was not sent."""
    return Refusal("general_argument_invalid", f'Param "{name}" is not optional.')

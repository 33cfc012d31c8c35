"""The words of what is seen of a run while it goes on: lines of its log, and a streamed response. No behaviour."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hearth.model.resources import Header


class LogStream(StrEnum):
    """Which text of the record a line is part of."""

    LOGS = "logs"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class LogLines:
    """Some lines in a row of one stream of one execution, without their newlines; `first` is a number from 1 on."""

    execution_id: str
    stream: LogStream
    first: int
    lines: tuple[str, ...]


#: Told of lines as they come. Called from the event loop; must neither block nor raise.
HearLog = Callable[[LogLines], None]


class StreamControl(Protocol):
    """What whoever receives a streamed response says back. Called from the event loop; fine after the end."""

    def consumed(self, size: int) -> None:
        """So many bytes of the body have been passed on: the function may send as many more."""

    def abort(self, reason: str) -> None:
        """Nobody reads the rest: the function is stopped, and its result is `canceled` with this reason."""


class StreamReceiver(Protocol):
    """Takes the response of one invocation as it comes, if the function streams it. Called from the event loop.

    How it ended is said by the invocation's result, which comes after the last piece.
    """

    def on_begin(self, status_code: int, headers: tuple[Header, ...], control: StreamControl) -> None:
        """The head of a streamed response. Not called for one that the function gave as a whole."""

    def on_body(self, piece: bytes) -> None:
        """A piece of the body. What is neither passed on nor lost has to fit into the window of the executor."""

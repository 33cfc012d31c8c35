"""The logs of running executions for whoever follows them. While nobody does, an execution pays one look at a dict."""

from collections.abc import Iterable

from hearth.executor.calls import Call
from hearth.executor.logs import LogTail
from hearth.model.streaming import HearLog, LogLines, LogStream

#: Of what a running execution has logged, how much a new follower is told per stream: as much as a record keeps.
TOLD_MAX_BYTES = 1_000_000


class CallLog:
    """How much of one call's log its followers have been told."""

    __slots__ = ("_execution_id", "_hearers", "_told")

    def __init__(self, execution_id: str, hearers: set[HearLog]) -> None:
        self._execution_id = execution_id
        self._hearers = hearers
        self._told = {LogStream.LOGS: 0, LogStream.ERRORS: 0}

    def advance(self, call: Call, *, is_over: bool = False) -> None:
        """Tell the lines that have come to their end since; when the call is over, the rest too."""
        for stream, tail in _tails(call):
            start, stop = self._told[stream], tail.end(whole_lines=not is_over)
            if stop <= start:
                continue
            self._told[stream] = stop
            if self._hearers:
                first, lines = tail.lines(start, stop)
                told = LogLines(self._execution_id, stream, first, lines)
                for hear in tuple(self._hearers):
                    hear(told)

    def told(self, call: Call) -> Iterable[LogLines]:
        """What has been told so far, of a very long log the end."""
        for stream, tail in _tails(call):
            stop = self._told[stream]
            first, lines = tail.lines(tail.line_start(stop - TOLD_MAX_BYTES), stop)
            if lines:
                yield LogLines(self._execution_id, stream, first, lines)


class LiveLogs:
    """Who follows the executions of which function."""

    def __init__(self) -> None:
        self.hearers: dict[str, set[HearLog]] = {}
        """Who follows, by function; empty while nobody does."""

    def attach(self, call: Call, function_id: str) -> None:
        """A call begins: it is followed from its first line on if its function is."""
        if self.hearers:
            hearers = self.hearers.get(function_id)
            if hearers is not None:
                self._log_of(call, hearers)

    def follow(self, function_id: str, hear: HearLog, running: Iterable[Call]) -> list[LogLines]:
        """Let `hear` be told of every line from now on; returns what the function's `running` calls logged before."""
        hearers = self.hearers.setdefault(function_id, set())
        before: list[LogLines] = []
        for call in running:
            if call.ticket.invocation.logging:
                log = self._log_of(call, hearers)
                log.advance(call)
                before += log.told(call)
        hearers.add(hear)
        return before

    def unfollow(self, function_id: str, hear: HearLog) -> None:
        """Tell `hear` nothing more. Fine to call twice."""
        hearers = self.hearers.get(function_id)
        if hearers is not None:
            hearers.discard(hear)
            if not hearers:
                del self.hearers[function_id]

    @staticmethod
    def _log_of(call: Call, hearers: set[HearLog]) -> CallLog:
        """The call's own. One that was followed before by others, who have all left, gets the new set."""
        invocation = call.ticket.invocation
        log = call.followed
        if not isinstance(log, CallLog) or log._hearers is not hearers:
            fresh = CallLog(invocation.execution_id, hearers)
            if invocation.logging:
                call.followed = fresh
            return fresh
        return log


def _tails(call: Call) -> Iterable[tuple[LogStream, LogTail]]:
    if call.logs is not None:
        yield LogStream.LOGS, call.logs
    if call.errors is not None:
        yield LogStream.ERRORS, call.errors

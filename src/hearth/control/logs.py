"""Live logs: the lines of executions as they are written, for keys and admins. Free while nobody reads."""

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Iterator

from hearth.control.executions import ExecutionsControl
from hearth.control.log_watch import Ended, Gap, Line, LogEvent, LogWatch, Told, recorded
from hearth.control.requiring import require_function
from hearth.model.actor import Actor
from hearth.model.events import Occurrence
from hearth.model.refusals import Busy, Refusal
from hearth.model.resources import Execution
from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus
from hearth.model.streaming import LogLines
from hearth.ports import Executor, Store

#: Readers at one time, of all projects together.
WATCHES_MAX = 1_000
#: Events of a function that are kept for readers who come back.
KEPT_EVENTS = 1_000
#: How long they are kept after the last reader has left, seconds.
KEPT_S = 30.0
#: Running executions of one function whose lines are counted; beyond that the oldest are forgotten.
COUNTED_MAX = 10_000


class LogsControl:
    """Use cases of live logs. `heard` has to be told of every event, and of progress."""

    def __init__(self, *, store: Store, executor: Executor, executions: ExecutionsControl) -> None:
        self._store = store
        self._executor = executor
        self._executions = executions
        self._followers: dict[tuple[str, str], set[_Follower]] = {}
        """By project and execution."""
        self._channels: dict[tuple[str, str], _Channel] = {}
        """By project and function."""
        self._watches: set[LogWatch] = set()

    async def of_execution(
        self,
        project_id: str,
        actor: Actor,
        function_id: str,
        execution_id: str,
        *,
        follow: bool = True,
        position: str = "",
    ) -> LogWatch:
        """The lines of one execution so far, then (`follow`) those to come, then its end.

        `position` is the id of the last event a reader has seen. Raises `user_unauthorized`, `function_not_found`,
        `execution_not_found`, and Busy when there are too many readers.
        """
        self._admit(actor)
        told = Told.at(position)
        running = self._executions.running(project_id, function_id, execution_id)
        if running is None:
            execution = await self._executions.get(project_id, actor, function_id, execution_id)
            if execution.status in EXECUTION_FINAL:
                return self._finished(execution, told)
        follower = _Follower(self, project_id, function_id, execution_id, told)
        if running is None:
            # It may have ended while it was asked for, before anybody listened.
            try:
                execution = await self._executions.get(project_id, actor, function_id, execution_id)
            except BaseException:
                follower.watch.close()
                raise
            if execution.status in EXECUTION_FINAL:
                follower.watch.close()
                return self._finished(execution, Told.at(position))
        if not follow:
            follower.watch.finish()
        return follower.watch

    async def of_function(
        self, project_id: str, actor: Actor, function_id: str, *, follow: bool = True, position: str = ""
    ) -> LogWatch:
        """The lines of all executions of a function that run now, then (`follow`) of all to come, and the end of each.

        `position` as above: what a reader missed is told first, or else a Gap. Raises `user_unauthorized`,
        `function_not_found`, and Busy when there are too many readers.
        """
        self._admit(actor)
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
        key = project_id, function_id
        channel = self._channels.get(key)
        if channel is None:
            self._channels[key] = channel = _Channel(self, project_id, function_id)
        watch = channel.join(position)
        if not follow:
            watch.finish()
        return watch

    async def look_again(self, watch: LogWatch, project_id: str, function_id: str, execution_id: str) -> None:
        """End a watch whose execution ended without an event (a reaper did it), or was deleted. For quiet moments."""
        followers = [each for each in self._followers.get((project_id, execution_id), ()) if each.watch is watch]
        if not followers or self._executions.running(project_id, function_id, execution_id) is not None:
            return
        async with self._store.view(project_id) as unit:
            execution = await unit.executions.get(function_id, execution_id)
        for follower in followers:
            if execution is None:
                watch.finish()
            elif execution.status in EXECUTION_FINAL:
                follower.end(execution)

    def is_followed(self, project_id: str) -> bool:
        """Whether anybody follows a log, of whichever project."""
        return bool(self._watches or self._channels)

    def heard(self, occurrence: Occurrence) -> None:
        """An event: where an execution has begun (perhaps once more) or ended, its readers are told."""
        if not self._watches and not self._channels:
            return
        execution = occurrence.subject
        if not isinstance(execution, Execution):
            return
        if occurrence.event.endswith(".delete"):
            for follower in tuple(self._followers.get((occurrence.project_id, execution.id), ())):
                follower.watch.finish()
        elif execution.status in EXECUTION_FINAL or execution.status is ExecutionStatus.PROCESSING:
            each: _Follower | _Channel | None
            channel = self._channels.get((occurrence.project_id, execution.function_id))
            for each in (*self._followers.get((occurrence.project_id, execution.id), ()), channel):
                if each is None:
                    continue
                if execution.status is ExecutionStatus.PROCESSING:
                    each.begin(execution)
                else:
                    each.end(execution)

    def stop(self) -> None:
        """The server stops: every reader's stream ends, and nobody is waited for."""
        for watch in tuple(self._watches):
            watch.close()
        for channel in tuple(self._channels.values()):
            channel.forget()

    def _admit(self, actor: Actor) -> None:
        if not actor.is_privileged:
            raise Refusal("user_unauthorized", "Logs are shown to API keys and admins of the project only.")
        if len(self._watches) >= WATCHES_MAX:
            raise Busy("too many logs are being followed", limit=f"log_watches_max={WATCHES_MAX}", retry_after_s=5)

    def _finished(self, execution: Execution, told: Told) -> LogWatch:
        watch = LogWatch(_rest(execution, told))
        watch.finish()
        return watch


class _Follower:
    """Follows one execution for one watch."""

    def __init__(self, control: LogsControl, project_id: str, function_id: str, execution_id: str, told: Told) -> None:
        self._control = control
        self._function_id = function_id
        self._execution_id = execution_id
        self._key = project_id, execution_id
        self._told = told
        self.watch = LogWatch(on_close=self._leave)
        control._watches.add(self.watch)
        control._followers.setdefault(self._key, set()).add(self)
        before = control._executor.follow_logs(function_id, self.hear)
        self.watch.preface(
            [event for lines in before if lines.execution_id == execution_id for event in _lines(lines, told)]
        )

    def hear(self, lines: LogLines) -> None:
        """Some lines of the function were written."""
        if lines.execution_id == self._execution_id:
            for event in _lines(lines, self._told):
                self.watch.offer(event)

    def begin(self, execution: Execution) -> None:
        """The execution runs, perhaps not for the first time: its lines are counted anew."""
        self._told.counts = Told().counts

    def end(self, execution: Execution) -> None:
        """The execution is over. What only its record says (it never ran, or we failed) is told first."""
        for event in _rest(execution, self._told, only_untold=True):
            self.watch.offer(event)
        self.watch.finish()

    def _leave(self) -> None:
        control = self._control
        control._executor.unfollow_logs(self._function_id, self.hear)
        control._watches.discard(self.watch)
        followers = control._followers.get(self._key)
        if followers is not None:
            followers.discard(self)
            if not followers:
                del control._followers[self._key]


class _Channel:
    """What all readers of one function's logs are told; remembers the last of it for those who come back."""

    def __init__(self, control: LogsControl, project_id: str, function_id: str) -> None:
        self._control = control
        self._key = project_id, function_id
        self._epoch = secrets.token_hex(4)
        self._last = 0
        self._kept: deque[tuple[int, LogEvent]] = deque(maxlen=KEPT_EVENTS)
        self._told: dict[str, Told] = {}
        self._watches: set[LogWatch] = set()
        self._timer: asyncio.TimerHandle | None = None
        for lines in control._executor.follow_logs(function_id, self.hear):
            self.hear(lines)

    def join(self, position: str) -> LogWatch:
        """A new reader, told first what he missed since `position`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        watch = LogWatch(self._since(position), lambda: self._leave(watch))
        self._watches.add(watch)
        self._control._watches.add(watch)
        return watch

    def hear(self, lines: LogLines) -> None:
        """Some lines were written."""
        told = self._told.get(lines.execution_id)
        if told is None:
            told = self._told[lines.execution_id] = Told()
            if len(self._told) > COUNTED_MAX:
                del self._told[next(iter(self._told))]
        for number, text in told.news(lines):
            self._add(Line(self._next_id(), lines.execution_id, lines.stream, number, text))

    def begin(self, execution: Execution) -> None:
        """An execution runs, perhaps not for the first time: its lines are counted anew."""
        self._told.pop(execution.id, None)

    def end(self, execution: Execution) -> None:
        """An execution is over."""
        told = self._told.pop(execution.id, None) or Told()
        for lines in recorded(execution):
            if not told.counts[lines.stream]:
                for number, text in told.news(lines):
                    self._add(Line(self._next_id(), execution.id, lines.stream, number, text))
        self._add(Ended(self._next_id(), execution))

    def forget(self) -> None:
        """Nobody reads, or comes back."""
        if self._timer is not None:
            self._timer.cancel()
        self._control._executor.unfollow_logs(self._key[1], self.hear)
        self._control._channels.pop(self._key, None)

    def _next_id(self) -> str:
        self._last += 1
        return f"{self._epoch}-{self._last}"

    def _add(self, event: LogEvent) -> None:
        self._kept.append((self._last, event))
        for watch in tuple(self._watches):
            watch.offer(event)

    def _since(self, position: str) -> list[LogEvent]:
        if not position:
            return self._of_running()
        epoch, _, number = position.partition("-")
        first = self._kept[0][0] if self._kept else self._last + 1
        if epoch != self._epoch or not number.isdecimal() or not first - 1 <= int(number) <= self._last:
            return [Gap(), *self._of_running()]
        return [event for at, event in self._kept if at > int(number)]

    def _of_running(self) -> list[LogEvent]:
        """Of what is kept, the lines of executions that have not ended."""
        return [event for _, event in self._kept if isinstance(event, Line) and event.execution_id in self._told]

    def _leave(self, watch: LogWatch) -> None:
        self._watches.discard(watch)
        self._control._watches.discard(watch)
        if not self._watches and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEPT_S, self.forget)


def _lines(lines: LogLines, told: Told) -> Iterator[Line]:
    for number, text in told.news(lines):
        yield Line(told.position, lines.execution_id, lines.stream, number, text)


def _rest(execution: Execution, told: Told, *, only_untold: bool = False) -> Iterable[LogEvent]:
    """The lines of a record that are not told yet (`only_untold`: of streams of which none is), then its end."""
    for lines in recorded(execution):
        if not (only_untold and told.counts[lines.stream]):
            yield from _lines(lines, told)
    yield Ended(told.position, execution)

"""Build and run: builder, fetcher, executor, the catalogue of runtimes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hearth.model.prompt import Pending
from hearth.model.running import BuildRequest, BuildResult, InstanceKey, InstanceTemplate, Invocation, Result
from hearth.model.sources import Fetched, FetchRequest, PublishRequest
from hearth.model.streaming import HearLog, LogLines


class Builder(Protocol):
    """Turns a source into an artifact."""

    async def build(self, request: BuildRequest, on_log: Callable[[str], None]) -> BuildResult:
        """Run one build to its end. `on_log` gets pieces of the log as they come, with their newlines.

        A build the user's code fails is a BuildResult without artifact; PlatformFault means ours failed.
        If cancelled, everything of the build is ended before the cancellation goes on.
        """


class SourceUnavailable(Exception):
    """A source cannot be fetched: the text says why and what its user can do about it."""


class Fetcher(Protocol):
    """Brings the source of a deployment from where it is kept (git, bundled starters) into the file store."""

    async def fetch(self, request: FetchRequest, on_log: Callable[[str], None]) -> Fetched:
        """Fetch one source and store it under `request.key`. `on_log` gets pieces of the log as they come.

        Raises SourceUnavailable; PlatformFault means ours failed. Repeating a fetch replaces what it stored. If
        cancelled, everything of the fetch is ended before the cancellation goes on.
        """

    async def publish(self, request: PublishRequest, on_log: Callable[[str], None]) -> str:
        """Push a template's files to a branch as one commit by the platform; returns the branch's newest commit then.

        Where the branch holds them already nothing is pushed, so repeating it is fine. Raises and cancels as `fetch`.
        """


class Executor(Protocol):
    """Turns an invocation into a result; callers never know whether it is this machine or a fleet."""

    async def start(self) -> None: ...

    def submit(self, invocation: Invocation) -> "Pending[Result]":
        """Begin to run one request; the future gets what `invoke` returns or raises. Cancelling it is as there."""

    async def invoke(self, invocation: Invocation) -> Result:
        """Run one request in an instance and return what the function did.

        A function that fails, times out or dies is a Result with that outcome. Raises Busy when no instance
        came free within `wait_s`, Unavailable when none could be started. If cancelled, the instance is
        stopped, not reused.
        """

    def follow_logs(self, function_id: str, hear: HearLog) -> Sequence[LogLines]:
        """Let `hear` be told of each line that executions of a function log, as it comes.

        Returns the lines of those that run now, from the first one of each on. All lines of an execution have been
        told when its result is there, and they are the result's.
        """

    def unfollow_logs(self, function_id: str, hear: HearLog) -> None:
        """Tell `hear` nothing more. Fine to call twice."""

    async def prepare(self, template: InstanceTemplate) -> None:
        """Make a deployment's code present, so that the first invocation need not wait for it."""

    def keep(self, template: InstanceTemplate, count: int) -> None:
        """From now on let there be `count` instances of this template, called or not, as far as there is room.

        Until `retire` or `remove` of its deployment, or `keep_only`. One that ends is replaced; requests come first.
        """

    def keep_only(self, function_id: str, key: InstanceKey | None) -> None:
        """Keep no instances ready of a function but those of `key` (None: none at all)."""

    async def wait_kept(self, template: InstanceTemplate) -> None:
        """Return when as many instances are up as are to be kept, or that will not be soon. Never raises."""

    async def retire(self, deployment_id: str) -> None:
        """Let the instances of a deployment end: no new request goes to them, running ones finish."""

    async def remove(self, deployment_id: str) -> None:
        """The deployment was deleted: end its instances at once; what runs in them or waits for one fails."""

    async def close(self, grace_s: float) -> None:
        """Refuse new work, let running invocations end for up to `grace_s` seconds, then stop everything."""


class Runtimes(Protocol):
    """The catalogue: which runtimes exist and which can run here."""

    def all(self) -> Sequence[Mapping[str, Any]]:
        """Every known runtime, in the order and with the keys of the wire model."""

    def exists(self, id: str) -> bool: ...

    def available(self, id: str) -> bool:
        """Whether functions of this runtime can be built and run on this machine now."""

    def installed(self) -> Sequence[Mapping[str, Any]]:
        """Of `all()` the available ones."""

    def how_to_get(self, id: str) -> str:
        """A sentence that says how to make a known runtime available here, for the operator."""

"""A streamed response between host and shim: credit, limits, and how it is stopped. The shim is the test."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from hearth.executor.actions import Member
from hearth.executor.calls import Ended, PendingResult, Ticket
from hearth.executor.conversation import Conversation
from hearth.executor.limits import ExecutorLimits
from hearth.executor.live import LiveLogs
from hearth.executor.sandbox.spec import SandboxExit
from hearth.model.resources import Header
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate, Outcome, Result
from hearth.model.streaming import LogLines, StreamControl
from tests.support.executors import invocation

pytestmark = pytest.mark.anyio

TEMPLATE = InstanceTemplate(
    InstanceKey("d", "v", "s"), "p", "f", "node-20", Artifact("a", "a", 1), "index.js", {}, 1.0, 256
)
LIMITS = ExecutorLimits(max_stream_bytes=3_000, stream_window_bytes=1_000, cancel_grace_s=0.01, max_response_bytes=500)


class Channel:
    """The transport: what the host has written, as headers."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        size = int.from_bytes(data[4:8], "big")
        self.sent.append(json.loads(data[8 : 8 + size]))

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """Closing a channel of the test closes nothing."""


class Reader:
    """The receiver of a stream, which takes nothing by itself."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, tuple[Header, ...]]] = []
        self.body = b""
        self.control: StreamControl | None = None

    def on_begin(self, status_code: int, headers: tuple[Header, ...], control: StreamControl) -> None:
        self.heads.append((status_code, headers))
        self.control = control

    def on_body(self, piece: bytes) -> None:
        self.body += piece


class Talk:
    """A conversation that has loaded, with everything it reports."""

    def __init__(self) -> None:
        self.released: list[bool] = []
        self.broken: list[tuple[str, Ended | None]] = []
        self.ended = asyncio.Event()
        self.channel = Channel()
        self.live = LiveLogs()
        self.conversation = Conversation(Member(1, TEMPLATE, slots=4), LIMITS, lambda: 0.0, self.live, self)
        self.conversation.connection_made(cast(asyncio.Transport, self.channel))
        self.say({"type": "ready", "pid": 1, "version": "1"})
        self.say({"type": "loaded", "concurrency": 4})

    def on_released(self, healthy: bool) -> None:
        self.released.append(healthy)
        self.ended.set()

    def on_broken(self, why: str, ended: Ended | None) -> None:
        self.broken.append((why, ended))
        self.ended.set()

    def on_disconnected(self) -> None:
        """The test never closes."""

    def read_output(self) -> bool:
        return False

    def ask(self, reader: Reader | None) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        asked = invocation(TEMPLATE, receiver=reader)
        assert self.conversation.begin(Ticket(TEMPLATE, 1.0, invocation=asked, future=future, submitted=0.0))
        return future

    def say(self, header: dict[str, Any], body: bytes = b"") -> None:
        head = json.dumps(header).encode()
        self.conversation.data_received(
            (4 + len(head) + len(body)).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head + body
        )

    def begin(self, id: int = 1, status: int = 200) -> None:
        headers = {"content-type": "text/plain", "bad name": "x"}
        self.say({"type": "response", "id": id, "status": status, "headers": headers, "more": True, "stream": True})

    def piece(self, size: int, id: int = 1, **more: bool) -> None:
        self.say({"type": "body", "id": id, "more": True, **more}, b"x" * size)

    def sent(self, type: str) -> list[dict[str, Any]]:
        return [frame for frame in self.channel.sent if frame["type"] == type]


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    made = Talk()
    yield made
    made.conversation.end(Ended(Outcome.CRASHED, "The test is over."), "", SandboxExit(0, None))


async def test_the_shim_may_send_on_when_a_quarter_of_the_window_was_taken(talk: Talk) -> None:
    reader = Reader()
    future = talk.ask(reader)
    talk.begin()
    assert reader.heads == [(200, (("content-type", "text/plain"),))]
    assert reader.control is not None
    for _ in range(4):
        talk.piece(250)
    reader.control.consumed(249)
    assert talk.sent("ack") == []
    reader.control.consumed(251)
    assert talk.sent("ack") == [{"type": "ack", "id": 1, "size": 500}]
    talk.piece(500, more=False)
    result = future.result()
    assert (result.outcome, result.body, result.broken, len(reader.body)) == (Outcome.COMPLETED, b"", False, 1_500)
    assert "'bad name' was dropped" in result.errors
    assert result.errors.count("\n") == 1
    reader.control.consumed(1_000)
    reader.control.abort("late")
    assert (len(talk.sent("ack")), talk.sent("cancel"), talk.released) == (1, [], [True])


async def test_more_than_the_window_ends_the_instance(talk: Talk) -> None:
    talk.ask(Reader())
    talk.begin()
    talk.piece(600)
    talk.piece(401)
    assert len(talk.broken) == 1
    assert talk.broken[0][1] is not None
    assert "more of a streamed response than was asked for" in talk.broken[0][1].reason


@pytest.mark.parametrize("is_read", [True, False])
async def test_the_size_of_a_stream_is_limited(talk: Talk, is_read: bool) -> None:
    """One that is passed on by its own limit, one that is collected by that of any response."""
    reader = Reader() if is_read else None
    future = talk.ask(reader)
    talk.begin()
    limit = 3_000 if is_read else 500
    sent = 0
    while sent <= limit:
        assert not future.done()
        talk.piece(250)
        sent += 250
        if reader is not None and reader.control is not None:
            reader.control.consumed(250)
    result = future.result()
    assert (result.outcome, result.status_code, result.broken) == (Outcome.COMPLETED, 500, True)
    assert f"larger than the limit of {limit} bytes" in result.errors
    assert talk.broken == [("response too large", None)]


async def test_a_stream_nobody_reads_is_acknowledged_and_collected(talk: Talk) -> None:
    future = talk.ask(None)
    talk.begin(status=201)
    talk.piece(250)
    talk.piece(250)
    assert [frame["size"] for frame in talk.sent("ack")] == [250, 250]
    talk.piece(0, more=False)
    assert (future.result().status_code, future.result().body) == (201, b"x" * 500)


async def test_an_aborted_stream_frees_its_place_when_the_shim_has_stopped_it(talk: Talk) -> None:
    reader = Reader()
    future = talk.ask(reader)
    talk.begin(status=206)
    talk.say({"type": "log", "id": 1, "stream": "log"}, b"a line\n")
    assert reader.control is not None
    reader.control.abort("The reader left.")
    result = future.result()
    assert (result.outcome, result.status_code, result.broken) == (Outcome.CANCELED, 206, True)
    assert (result.logs, result.errors.splitlines()[-1]) == ("a line\n", "The reader left.")
    assert [frame["id"] for frame in talk.sent("cancel")] == [1]
    talk.piece(100)
    talk.say({"type": "log", "id": 1, "stream": "log"}, b"late\n")
    assert (talk.released, reader.body) == ([], b"")
    talk.piece(0, more=False)
    await asyncio.sleep(2 * LIMITS.cancel_grace_s)
    assert (talk.released, talk.broken) == ([True], [])


async def test_one_that_does_not_stop_costs_its_instance(talk: Talk) -> None:
    reader = Reader()
    talk.ask(reader)
    talk.begin()
    assert reader.control is not None
    reader.control.abort("The reader left.")
    async with asyncio.timeout(10):
        await talk.ended.wait()
    assert (talk.released, talk.broken) == ([], [("did not stop", None)])


async def test_one_that_does_not_stop_lets_the_others_finish(talk: Talk) -> None:
    reader = Reader()
    talk.ask(reader)
    other = talk.ask(None)
    talk.begin()
    assert reader.control is not None
    reader.control.abort("The reader left.")
    async with asyncio.timeout(10):
        await talk.ended.wait()
    assert (talk.released, talk.broken, other.done()) == ([False], [], False)
    talk.say({"type": "response", "id": 2, "status": 200, "headers": {}, "more": False}, b"fine")
    assert other.result().body == b"fine"


@pytest.mark.parametrize("timed_out", [True, False])
async def test_a_broken_stream_has_failed(talk: Talk, timed_out: bool) -> None:
    future = talk.ask(Reader())
    talk.begin()
    talk.piece(10, more=False, broken=True, timed_out=timed_out)
    result = future.result()
    outcome = Outcome.TIMED_OUT if timed_out else Outcome.COMPLETED
    assert (result.outcome, result.status_code, result.broken) == (outcome, 500, True)
    assert talk.released == [not timed_out]


async def test_only_a_stream_can_break(talk: Talk) -> None:
    talk.ask(None)
    talk.say({"type": "response", "id": 1, "status": 200, "headers": {}, "more": True}, b"a")
    talk.piece(0, more=False, broken=True)
    assert talk.broken[0][0] == "broke the protocol"


async def test_followers_come_and_go_and_all_hear_the_same_lines(talk: Talk) -> None:
    first, second = list[LogLines](), list[LogLines]()
    future = talk.ask(None)
    running = talk.conversation.calls.values()
    talk.say({"type": "log", "id": 1, "stream": "log"}, b"1\n2\n")
    assert [lines.lines for lines in talk.live.follow("f", first.append, running)] == [("1", "2")]
    talk.say({"type": "log", "id": 1, "stream": "native"}, b"nat")
    talk.say({"type": "log", "id": 1, "stream": "native"}, b"ive\nrest")
    before = talk.live.follow("f", second.append, running)
    assert before[0].lines[:2] == ("1", "2")
    assert before[0].lines[-1] == "native"
    talk.live.unfollow("f", first.append)
    talk.live.unfollow("f", first.append)
    talk.say({"type": "response", "id": 1, "status": 200, "headers": {}, "more": False})
    heard = [line for lines in first for line in lines.lines]
    assert heard[-1] == "native"
    assert [(lines.first, lines.lines) for lines in second] == [(5, ("rest",))]
    assert future.result().logs.splitlines() == ["1", "2", *heard, "rest"]
    talk.live.unfollow("f", second.append)
    assert talk.live.hearers == {}


async def test_an_answered_request_leaves_nothing_to_the_collector(talk: Talk) -> None:
    """Tens of thousands a second would: what holds itself is freed only when the collector has come."""

    def ask(id: int) -> PendingResult:
        future = PendingResult()
        future.ticket = Ticket(TEMPLATE, 1.0, invocation=invocation(TEMPLATE), future=future, submitted=0.0)
        future.withdraw = talk.conversation.abandon
        assert talk.conversation.begin(future.ticket)
        return future

    gc.collect()
    gc.disable()
    try:
        for id in range(1, 101):
            future = ask(id)
            talk.say({"type": "response", "id": id, "status": 200, "headers": {"a": "b"}, "more": False}, b"x")
            assert future.result().body == b"x"
            del future
        left = gc.collect()
    finally:
        gc.enable()
    assert left < 100, f"{left} objects of 100 requests"

"""The driver `ns`: sandboxes made by our own spawner. This is its client, in the API process's event loop."""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hearth.executor.sandbox import messages
from hearth.executor.sandbox.launch import Helper
from hearth.executor.sandbox.meters import GroupMeter
from hearth.executor.sandbox.outbox import Outbox
from hearth.executor.sandbox.spec import Facility, Limits, Mount, Network, SandboxExit, SandboxFailed, SandboxSpec

RECEIVE_PER_WAKE = 64
LOST = SandboxExit(code=-1, signal=None)
Answer = asyncio.Future[dict[str, Any]]


class NsSandbox:
    """A started sandbox of this driver (see `Sandbox`)."""

    def __init__(self, driver: "NsDriver", id: str, channel: socket.socket | None, output: int) -> None:
        self.id = id
        self.channel = channel
        self.output = output
        self.uid = -1
        """Host uid and gid of its processes."""
        self.pid = -1
        """Host pid of its first process."""
        self.meter: GroupMeter | None = None
        self._driver = driver
        self._ended: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()

    async def wait(self) -> SandboxExit:
        return await asyncio.shield(self._ended)

    async def kill(self) -> SandboxExit:
        if not self._ended.done():
            self._driver.post({"op": "kill", "id": self.id})
        return await asyncio.shield(self._ended)

    async def freeze(self, frozen: bool) -> None:
        """Raises SandboxFailed when it cannot be frozen; nothing happens to one that has ended."""
        if not self._ended.done():
            await self._driver.request({"op": "freeze", "id": self.id, "frozen": frozen}, "freeze")

    async def mount(self, mount: Mount) -> None:
        """See `Sandbox.mount`."""
        await self._driver.request(messages.mount_message(self.id, mount), "mount")

    async def retune(self, limits: Limits) -> None:
        """See `Sandbox.retune`."""
        await self._driver.request(messages.retune_message(self.id, limits), "retune")

    async def limit_egress(self, allow: Sequence[str]) -> None:
        """See `Sandbox.limit_egress`."""
        await self._driver.limit_egress(self.id, allow)

    def ended(self, how: SandboxExit) -> None:
        """Called by the driver when the spawner told how it ended."""
        if self.meter is not None:
            self.meter.close()
        if not self._ended.done():
            self._ended.set_result(how)

    def __repr__(self) -> str:
        state = "ended" if self._ended.done() else "running"
        return f"<sandbox {self.id}, {state}, uid {self.uid}>"


class NsDriver:
    """Starts sandboxes through the spawner (see `Driver`); make it inside the event loop that will use it.

    `on_lost` is called once if the spawner or the gate dies: every sandbox is over then, `alive` is False and the
    server should end with an error.
    """

    def __init__(self, spawner: Helper, gate: Helper | None, on_lost: Callable[[str], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._spawner = spawner
        self._gate = gate
        self._on_lost = on_lost
        self._sequence = 0
        self._to_spawner = Outbox(spawner.socket)
        self._to_gate = Outbox(gate.socket) if gate is not None else None
        self._replies: dict[int, Answer] = {}
        self._starts: dict[int, SandboxSpec] = {}
        """Number of each start under way -> its sandbox, whose sockets come with the answer."""
        self._limits: dict[int, asyncio.Future[bool]] = {}
        """Number of each list the gate was given -> whether it has the sandbox to apply it to."""
        self._sandboxes: dict[str, NsSandbox] = {}
        self._closing = False
        self._opened: Sequence[str] = gate.ready.get("opened", ()) if gate is not None else ()
        self.egress_refused: Counter[str] = Counter()
        """Reason -> how many connections and questions of sandboxes the gate did not let through."""
        self.alive = True
        self._loop.add_reader(spawner.socket.fileno(), self._read)
        if gate is not None:
            self._loop.add_reader(gate.socket.fileno(), self._read_gate)

    def __repr__(self) -> str:
        return f"<ns driver, {'alive' if self.alive else 'lost'}, {len(self._sandboxes)} sandboxes>"

    # ------------------------------------------------------------------------------------------ Driver

    async def start(self, spec: SandboxSpec) -> NsSandbox:
        """Start a sandbox. Raises SandboxFailed. If cancelled, what was started is ended first."""
        if not self.alive or self._closing:
            raise SandboxFailed("the spawner is gone" if not self.alive else "the driver is closed")
        if spec.network is Network.GATE and self._gate is None:
            raise SandboxFailed("network: this server has no egress gate")
        if spec.id in self._sandboxes:
            raise SandboxFailed(f"id {spec.id} is in use")
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        channel, theirs = socket.socketpair() if spec.channel else (None, None)
        sandbox = NsSandbox(self, spec.id, channel, reader)
        self._sandboxes[spec.id] = sandbox
        try:
            if channel is not None:
                channel.setblocking(False)
            opened = self._opened if spec.network is Network.GATE else ()
            passed = [writer, *([theirs.fileno()] if theirs is not None else []), *spec.descriptors.values()]
            answer = self._send(lambda sequence: messages.start_message(sequence, spec, opened), passed, spec)
            os.close(writer)
            writer = -1
            if theirs is not None:
                theirs.close()
            message = await self._await_start(answer, sandbox)
            sandbox.uid, sandbox.pid = message["uid"], message["pid"]
            if spec.egress is not None:
                await self._sure_of_limit(sandbox, spec.egress)
        except BaseException as problem:
            self._sandboxes.pop(spec.id, None)
            sandbox.ended(LOST)
            os.close(reader)
            if channel is not None:
                channel.close()
            if isinstance(problem, messages.BadMessage | OSError):
                raise SandboxFailed(str(problem)) from problem
            raise
        finally:
            if writer >= 0:
                os.close(writer)
            if theirs is not None:
                theirs.close()
        return sandbox

    async def _await_start(self, answer: Answer, sandbox: NsSandbox) -> dict[str, Any]:
        """Wait for the spawner's word on a start; if cancelled, end the sandbox and wait for that, then go on."""
        try:
            message = await asyncio.shield(answer)
        except asyncio.CancelledError:
            self.post({"op": "kill", "id": sandbox.id})
            await _uncancelled(self._abandoned(answer, sandbox))
            raise
        if "error" in message:
            raise SandboxFailed(message["error"])
        return message

    async def _sure_of_limit(self, sandbox: NsSandbox, allow: Sequence[str]) -> None:
        """The gate has got the list with the sandbox's sockets; see that there were any."""
        try:
            await self.limit_egress(sandbox.id, allow)
        except BaseException:
            await _uncancelled(sandbox.kill())
            raise

    async def limit_egress(self, id: str, allow: Sequence[str]) -> None:
        """See `Sandbox.limit_egress`."""
        if self._to_gate is None or not self.alive:
            raise SandboxFailed("egress: this server has no egress gate")
        self._sequence += 1
        number = self._sequence
        self._limits[number] = answer = self._loop.create_future()
        try:
            self._to_gate.send(messages.encode({"op": "limit", "seq": number, "id": id, "allow": list(allow)}))
            if not await answer:
                raise SandboxFailed("egress: the sandbox has no gate that could limit it")
        except (OSError, messages.BadMessage) as problem:
            raise SandboxFailed(f"egress: {problem}") from problem
        finally:
            self._limits.pop(number, None)

    async def _abandoned(self, answer: Answer, sandbox: NsSandbox) -> None:
        if "error" not in await answer:
            await sandbox.kill()

    async def make_disk(self, path: str, size_bytes: int) -> bool:
        """See `Driver.make_disk`."""
        answer = await self.request({"op": "make_disk", "path": path, "size_bytes": size_bytes}, "make disk")
        return bool(answer["made"])

    async def remove_tree(self, path: str) -> None:
        """Delete a folder below the data folder; fine when there is none. Raises SandboxFailed."""
        await self.request({"op": "remove_tree", "path": path}, "remove_tree")

    async def facilities(self) -> Sequence[Facility]:
        """Probe the machine now, through the spawner. Raises SandboxFailed."""
        message = await self.request({"op": "facilities"}, "facilities")
        return [Facility(*fields) for fields in message["facilities"]]

    async def close(self) -> None:
        """End every sandbox, then the spawner and the gate."""
        if self._closing:
            return
        self._closing = True
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._sandboxes.values())))
        self._lost("")
        for helper in (self._spawner, self._gate):
            if helper is not None:
                await self._loop.run_in_executor(None, helper.stop)

    # ------------------------------------------------------------------------------------------ spawner

    def post(self, message: dict[str, Any]) -> None:
        """Send a request whose answer does not matter."""
        if self.alive:
            with contextlib.suppress(SandboxFailed):
                self._send(lambda sequence: {"seq": sequence, **message})

    async def request(self, message: dict[str, Any], what: str) -> dict[str, Any]:
        """Send a request and return its answer. Raises SandboxFailed with the spawner's reason."""
        answer = await self._send(lambda sequence: {"seq": sequence, **message})
        if "error" in answer:
            raise SandboxFailed(f"{what}: {answer['error']}")
        return answer

    def _send(
        self, make: Callable[[int], dict[str, Any]], descriptors: Sequence[int] = (), starts: SandboxSpec | None = None
    ) -> Answer:
        """Send a request made for its number; what comes back is its answer. `starts` is what it starts."""
        if not self.alive:
            raise SandboxFailed("the spawner is gone")
        self._sequence += 1
        data = messages.encode(make(self._sequence))
        try:
            self._to_spawner.send(data, descriptors)
        except OSError as problem:
            raise SandboxFailed(f"spawner: {problem}") from problem
        if starts is not None:
            self._starts[self._sequence] = starts
        answer: Answer = self._loop.create_future()
        self._replies[self._sequence] = answer
        return answer

    def _read(self) -> None:
        for _ in range(RECEIVE_PER_WAKE):
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._spawner.socket, messages.MESSAGE_BYTES, messages.DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._lost("the spawner ended")
                return
            self._on_message(messages.decode(data), descriptors)

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message.get("event") == "exit":
            sandbox = self._sandboxes.pop(message["id"], None)
            self._detach_gate(message["id"])
            if sandbox is not None:
                fields = ("code", "signal", "out_of_memory", "pids_exhausted", "cpu_s", "peak_memory_bytes")
                sandbox.ended(SandboxExit(**{name: message[name] for name in fields}))
            return
        number = message.get("seq") or 0
        started = self._starts.pop(number, None)
        if "meters" in message:
            self._attach_meter(started, message["meters"], descriptors[message["gates"] :])
            descriptors = descriptors[: message["gates"]]
        # before the answer is given out: the next message may be this sandbox's end, which takes it from the gate
        self._attach_gate(started, descriptors)
        answer = self._replies.pop(number, None)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _attach_meter(self, spec: SandboxSpec | None, names: Sequence[str], descriptors: Sequence[int]) -> None:
        """Give a sandbox that has started its meter; one that is not wanted any more needs none."""
        sandbox = self._sandboxes.get(spec.id) if spec is not None else None
        if sandbox is None or len(names) != len(descriptors):  # too few: this process may open no more files
            _close_all(descriptors)
        else:
            sandbox.meter = GroupMeter(names, descriptors)

    def _lost(self, why: str) -> None:
        """The spawner or the gate is gone: nothing that ran is left, whoever waits is told."""
        if not self.alive:
            return
        self.alive = False
        for outbox in (self._to_spawner, self._to_gate):
            if outbox is not None:
                outbox.close()
        for helper in (self._spawner, self._gate):
            if helper is not None and helper.socket.fileno() >= 0:
                self._loop.remove_reader(helper.socket.fileno())
                helper.socket.close()  # ends the other one too
        replies, self._replies = self._replies, {}
        for answer in replies.values():
            if not answer.done():
                answer.set_result({"error": why or "the driver was closed"})
        for limit in self._limits.values():
            if not limit.done():
                limit.set_result(False)
        sandboxes, self._sandboxes = self._sandboxes, {}
        for sandbox in sandboxes.values():
            sandbox.ended(LOST)
        if why and self._on_lost is not None:
            self._on_lost(why)

    # ------------------------------------------------------------------------------------------ gate

    def _attach_gate(self, spec: SandboxSpec | None, descriptors: list[int]) -> None:
        """Hand a sandbox's listener and DNS socket to the gate; ours are closed."""
        try:
            if spec is not None and descriptors and self._to_gate is not None:
                with contextlib.suppress(OSError):  # the gate is gone: its reader meets that and ends everything
                    attach = {"op": "attach", "id": spec.id, "allow": spec.egress}
                    self._to_gate.send(messages.encode(attach), descriptors)
        finally:
            _close_all(descriptors)

    def _detach_gate(self, id: str) -> None:
        if self._to_gate is not None:
            with contextlib.suppress(OSError):
                self._to_gate.send(messages.encode({"op": "detach", "id": id}))

    def _read_gate(self) -> None:
        """Hear what the gate may let through now, for the firewalls of sandboxes to come; or that it ended."""
        if self._gate is None:
            return
        try:
            data = self._gate.socket.recv(messages.MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            message = messages.decode(data)
            self._opened = message.get("opened", self._opened)
            self.egress_refused.update(message.get("refused", {}))
            answer = self._limits.pop(message.get("seq", 0), None)
            if answer is not None and not answer.done():
                answer.set_result(message["done"])
        else:
            self._lost("the egress gate ended")


def _close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


async def _uncancelled(work: Any) -> None:
    """Finish `work` even if this task is cancelled again meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)

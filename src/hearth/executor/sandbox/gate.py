"""The egress gate: an unprivileged process that owns the sandboxes' network sockets and decides where they may go.

`python -m` this module. It gets each sandbox's TCP listener and DNS socket by descriptor over its control socket,
so that no traffic of sandboxes passes through the API process. It ends when that socket closes.
"""

import asyncio
import contextlib
import ipaddress
import os
import resource
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import uvloop

from hearth.executor.sandbox import egress_policy, gate_dns, messages, netlink, syscalls
from hearth.executor.sandbox.config import (
    API_NAME,
    API_PSEUDO_ADDRESS,
    API_PSEUDO_PORT,
    HOST_PSEUDO_ADDRESS,
    GateConfig,
    gate_config,
)
from hearth.executor.sandbox.egress_limit import EgressLimit
from hearth.executor.sandbox.egress_policy import Address, Rules
from hearth.executor.sandbox.gate_relay import Relay, reset
from hearth.executor.sandbox.outbox import Outbox
from hearth.executor.sandbox.privileges import drop_privileges

SO_ORIGINAL_DST = 80
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
ACCEPTS_PER_WAKE = 64
DATAGRAMS_PER_WAKE = 64
ACCEPT_PAUSE_S = 0.1
LOOKUP_TIMEOUT_S = 5.0
#: How long refusals are collected before the server is told of them.
REPORT_AFTER_S = 1.0
#: Why a connection or question is refused, as it is counted.
NOT_LISTED, TOO_MANY, UNKNOWN = "not in the function's list", "too many at once", "destination unknown"


class Names:
    """The names the gate resolves itself (operator's list, package registries) and the rules that follow."""

    def __init__(self, config: GateConfig) -> None:
        """Raises ValueError for an entry that cannot be read."""
        listed = egress_policy.parse_allow_list(config.allow)
        registries = egress_policy.parse_allow_list(config.registry_hosts)
        self._networks = listed.networks
        self._literal = frozenset(
            (network.network_address, port) for network, port in registries.networks if port is not None
        )
        self._names = tuple(dict.fromkeys((*listed.names, *registries.names)))
        self._found: dict[str, tuple[Address, ...]] = {}
        self.rules = Rules()

    def known(self, name: str) -> Sequence[Address] | None:
        if name == API_NAME:
            return (ipaddress.IPv4Address(API_PSEUDO_ADDRESS),)
        return self._found.get(name)

    async def refresh(self) -> None:
        """Look everything up again; a name that fails keeps its last addresses."""
        await asyncio.gather(*(self._look_up(name) for name in dict.fromkeys(name for name, _ in self._names)))
        pinned = {(address, port) for name, port in self._names for address in self._found.get(name, ())}
        self.rules = Rules(netlink.own_addresses(), self._networks, frozenset(pinned) | self._literal)

    async def _look_up(self, name: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                found = await asyncio.get_running_loop().run_in_executor(None, gate_dns.lookup, name)
                if found:
                    self._found[name] = tuple(found)


class Client:
    """One sandbox at the gate: its two sockets and its open connections."""

    def __init__(
        self, gate: "Gate", id: str, listener: socket.socket, dns: socket.socket, limit: EgressLimit | None
    ) -> None:
        self.id = id
        self._limit = limit
        """What of all that is allowed this one may reach; None = everything."""
        self._gate = gate
        self._listener = listener
        self._dns = dns
        self._relays: set[Relay] = set()
        self._questions: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._budget = gate_dns.Budget(gate.config.dns_queries_per_s)
        for connection in (listener, dns):
            connection.setblocking(False)
        gate.loop.add_reader(listener.fileno(), self._on_connection)
        gate.loop.add_reader(dns.fileno(), self._on_datagram)

    def set_limit(self, limit: EgressLimit) -> None:
        """From now on connect and ask only as the list says; what is open ends."""
        self._limit = limit
        self._end_all()

    def close(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
        for connection in (self._listener, self._dns):
            self._gate.loop.remove_reader(connection.fileno())
            connection.close()
        self._end_all()

    def _end_all(self) -> None:
        for relay in list(self._relays):
            relay.abort()
        for question in self._questions:
            question.cancel()

    def _on_connection(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # descriptors are short: the backlog waits, and so do we
                self._gate.loop.remove_reader(self._listener.fileno())
                self._paused = self._gate.loop.call_later(ACCEPT_PAUSE_S, self._resume)
                return
            try:
                target = self._target(connection)
            except OSError:
                target = UNKNOWN
            if isinstance(target, str):
                self._gate.refused(target)
                reset(connection)
                continue
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            relay = Relay(connection, self._gate.config.idle_timeout_s, self._relays.discard)
            self._relays.add(relay)
            relay.connect(*target, self._gate.config.connect_timeout_s)

    def _resume(self) -> None:
        self._paused = None
        self._gate.loop.add_reader(self._listener.fileno(), self._on_connection)

    def _target(self, connection: socket.socket) -> tuple[str, int] | str:
        """Where a connection goes, by the address it was really made to; or why it may not."""
        packed = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        (port,) = struct.unpack_from(">H", packed, 2)
        address = ipaddress.IPv4Address(packed[4:8])
        if len(self._relays) >= self._gate.config.connections_per_sandbox:
            return TOO_MANY
        limit = self._limit
        if (str(address), port) == (API_PSEUDO_ADDRESS, API_PSEUDO_PORT):
            is_open = limit is None or limit.allows_api()
            return (is_open and self._gate.config.api) or NOT_LISTED
        if str(address) == HOST_PSEUDO_ADDRESS:
            address = LOOPBACK
        if reason := egress_policy.refusal(address, port, self._gate.names.rules):
            return reason.partition(" (")[0]  # without the network it is in: few reasons to count by
        if limit is not None and not limit.allows(address, port):
            return NOT_LISTED
        return str(address), port

    def _on_datagram(self) -> None:
        for _ in range(DATAGRAMS_PER_WAKE):
            try:
                data, source = self._dns.recvfrom(gate_dns.QUERY_BYTES_MAX + 1)
            except OSError:
                return
            try:
                question = gate_dns.read_question(data)
            except gate_dns.BadQuestion:
                continue
            waiting = len(self._questions) < self._gate.config.dns_waiting_per_sandbox
            if not self._budget.take(self._gate.loop.time()) or not waiting:
                self._gate.refused(TOO_MANY)
                self._reply(gate_dns.make_answer(question, gate_dns.REFUSED), source)
                continue
            task = self._gate.loop.create_task(self._answer(question, source))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)

    async def _answer(self, question: gate_dns.Question, source: Any) -> None:
        names, limit, name = self._gate.names, self._limit, question.name
        if limit is not None and not limit.may_ask(name):
            self._gate.refused(NOT_LISTED)
            self._reply(gate_dns.make_answer(question, gate_dns.NAME_ERROR), source)
            return

        def allowed(address: Address) -> bool:
            if not egress_policy.may_answer(address, names.rules):
                return False
            if limit is not None:
                limit.learn(name, address)
            return True

        def known(name: str) -> Sequence[Address] | None:
            found = names.known(name)
            for address in found or () if limit is not None else ():
                allowed(address)
            return found

        servers = self._gate.name_servers
        data = await gate_dns.answer(question, servers, known, allowed, self._gate.config.dns_timeout_s)
        self._reply(data, source)

    def _reply(self, data: bytes, source: Any) -> None:
        with contextlib.suppress(OSError):  # the asking socket is gone, or its buffer is full: it asks again
            self._dns.sendto(data, source)


class Gate:
    """The process's state: its clients and what is allowed now."""

    def __init__(self, control: socket.socket, config: GateConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self.config = config
        self.names = Names(config)
        self.name_servers: list[tuple[str, int]] = []
        self._control = control
        self._to_server = Outbox(control)
        self._clients: dict[str, Client] = {}
        self._opened: list[str] = []
        self._refused: Counter[str] = Counter()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve until the API process is gone."""
        await self._refresh("ready")
        self.loop.add_reader(self._control.fileno(), self._on_control)
        refresher = self.loop.create_task(self._keep_fresh())
        await self._over.wait()
        refresher.cancel()
        self.loop.remove_reader(self._control.fileno())
        for client in self._clients.values():
            client.close()

    def refused(self, reason: str) -> None:
        """Count what is not let through; the server is told of it at most once a second."""
        if not self._refused:
            self.loop.call_later(REPORT_AFTER_S, self._report)
        self._refused[reason] += 1

    def _report(self) -> None:
        with contextlib.suppress(OSError):  # the server is gone: its reader meets that
            self._to_server.send(messages.encode({"event": "refused", "refused": dict(self._refused)}))
        self._refused.clear()

    async def _refresh(self, event: str) -> None:
        given = [egress_policy.parse_allow_list([server]).networks[0] for server in self.config.nameservers]
        servers = [(str(network.network_address), port or 53) for network, port in given]
        self.name_servers = servers or gate_dns.system_name_servers()
        await self.names.refresh()
        networks = egress_policy.opened_networks(self.names.rules)
        pseudo = [API_PSEUDO_ADDRESS]
        if any(LOOPBACK in ipaddress.IPv4Network(network) for network in networks):
            pseudo.append(HOST_PSEUDO_ADDRESS)
        opened = [*(f"{address}/32" for address in pseudo), *networks]
        if event == "ready" or opened != self._opened:
            self._to_server.send(messages.encode({"event": event, "opened": opened[: messages.OPENED_MAX]}))
            self._opened = opened

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self.config.refresh_s)
            with contextlib.suppress(OSError):
                await self._refresh("opened")

    def _on_control(self) -> None:
        for _ in range(64):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, messages.MESSAGE_BYTES, 2)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._over.set()
                return
            self._on_message(messages.decode(data), descriptors)

    def _on_message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        id, entries = message["id"], message.get("allow")
        limit = None if entries is None else EgressLimit(entries)
        if message["op"] == "limit":
            client = self._clients.get(id)
            if client is not None and limit is not None:
                client.set_limit(limit)
            with contextlib.suppress(OSError):  # the server is gone: its reader meets that
                self._to_server.send(messages.encode({"event": "limited", "seq": message["seq"], "done": bool(client)}))
            return
        previous = self._clients.pop(id, None)
        if previous is not None:
            previous.close()
        if message["op"] == "attach":
            listener, dns = (socket.socket(fileno=fd) for fd in descriptors)
            self._clients[id] = Client(self, id, listener, dns, limit)


def main() -> int:
    """Serve the API process on the descriptor named by the argument: its first message is the configuration."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the API process decides when to end; its end is ours
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    config = gate_config(control.recv(messages.MESSAGE_BYTES))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        if config.network_namespace:
            namespace = os.open(config.network_namespace, os.O_RDONLY | os.O_CLOEXEC)
            syscalls.setns(namespace, syscalls.CLONE_NEWNET)
            os.close(namespace)
        drop_privileges(config.uid, config.gid, config.keep)

        async def serve() -> None:
            control.setblocking(False)
            await Gate(control, config).run()
            os._exit(0)  # a lookup in a thread may take long yet: nothing to wait for

        uvloop.run(serve())
    except (OSError, ValueError) as problem:
        with contextlib.suppress(OSError):
            control.setblocking(True)
            control.send(messages.encode({"event": "failed", "why": str(problem)[:800]}))
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())

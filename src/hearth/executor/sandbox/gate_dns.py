"""The gate's name service: answers a sandbox's questions from the host's resolvers.

The question is read, asked anew under an id and port of our own, and the answer is made anew: addresses that could
not be reached anyway are left out, AAAA is always empty (there is no IPv6 inside), other types are passed on.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from hearth.executor.sandbox.egress_policy import Address

A, AAAA = 1, 28
PASSED_TYPES = frozenset({2, 5, 6, 15, 16, 33, 64, 65, 257})
"""NS, CNAME, SOA, MX, TXT, SRV, SVCB, HTTPS, CAA."""
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, REFUSED = 0, 1, 2, 3, 5
QUERY_BYTES_MAX = 1_024
ANSWERS_MAX = 24
TTL_MAX_S = 60
UDP_BYTES = 1_232
"""Largest datagram asked for upstream and sent inside (the usual EDNS size, fits every path)."""


class BadQuestion(ValueError):
    """A datagram that is not a question we can read."""


class ResolveFailed(Exception):
    """No name server gave an answer in time."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: its id, flags, the raw name (length-prefixed labels with the final zero), type and class."""

    id: int
    flags: int
    raw_name: bytes
    type: int
    kind: int

    @property
    def name(self) -> str:
        """The name in lower case with dots, for comparing only."""
        labels, position = [], 0
        while self.raw_name[position]:
            length = self.raw_name[position]
            labels.append(self.raw_name[position + 1 : position + 1 + length].decode("latin-1").lower())
            position += 1 + length
        return ".".join(labels)

    def wire(self) -> bytes:
        return self.raw_name + struct.pack(">HH", self.type, self.kind)


def read_question(data: bytes) -> Question:
    """Parse a query datagram. Raises BadQuestion."""
    if not 17 <= len(data) <= QUERY_BYTES_MAX:
        raise BadQuestion("size")
    id, flags, questions = struct.unpack_from(">HHH", data)
    if flags & 0xF800 or questions != 1:  # an answer, or not a standard query
        raise BadQuestion("not one standard question")
    position = 12
    while True:
        if position >= len(data) or position - 12 > 254:
            raise BadQuestion("name")
        length = data[position]
        position += 1
        if length == 0:
            break
        if length > 63:
            raise BadQuestion("name")
        position += length
    if position + 4 > len(data):
        raise BadQuestion("end")
    type, kind = struct.unpack_from(">HH", data, position)
    return Question(id, flags, data[12:position], type, kind)


def make_answer(question: Question, code: int, records: Sequence[tuple[Address, int]] = ()) -> bytes:
    """An answer with A records (address, TTL in seconds) for the question's own name."""
    head = struct.pack(">HHHHHH", question.id, 0x8180 | question.flags & 0x0100 | code, 1, len(records), 0, 0)
    body = b"".join(struct.pack(">HHHIH", 0xC00C, A, IN, ttl, 4) + address.packed for address, ttl in records)
    return head + question.wire() + body


def make_query(question: Question, id: int) -> bytes:
    """The same question under another id, recursion desired, with an EDNS size."""
    edns = b"\0" + struct.pack(">HHIH", 41, UDP_BYTES, 0, 0)
    return struct.pack(">HHHHHH", id, 0x0100, 1, 0, 0, 1) + question.wire() + edns


def _skip_name(data: bytes, position: int) -> int:
    for _ in range(128):
        if position >= len(data):
            raise ValueError("name")
        length = data[position]
        if length >= 0xC0:
            return position + 2
        position += 1 + length
        if length == 0:
            return position
    raise ValueError("name")


def read_addresses(data: bytes) -> tuple[int, list[tuple[Address, int]]]:
    """The response code and every A record (address, TTL) of an upstream answer. Raises ValueError."""
    try:
        _, flags, questions, answers = struct.unpack_from(">HHHH", data)
        position = 12
        for _ in range(questions):
            position = _skip_name(data, position) + 4
        found: list[tuple[Address, int]] = []
        for _ in range(min(answers, 256)):
            position = _skip_name(data, position)
            type, kind, ttl, length = struct.unpack_from(">HHIH", data, position)
            position += 10
            if (type, kind, length) == (A, IN, 4):
                found.append((ipaddress.IPv4Address(data[position : position + 4]), min(ttl, TTL_MAX_S)))
            position += length
    except (struct.error, ipaddress.AddressValueError) as problem:
        raise ValueError(str(problem)) from problem
    return flags & 0xF, found[:ANSWERS_MAX]


def system_name_servers() -> list[tuple[str, int]]:
    """The host's resolvers, from /etc/resolv.conf."""
    servers = []
    with contextlib.suppress(OSError), open("/etc/resolv.conf") as file:
        for line in file.read(65_536).splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                servers.append((words[1], 53))
    return servers[:3] or [("127.0.0.1", 53)]


class _Exchange(asyncio.DatagramProtocol):
    """One question to one name server; ignores whatever is not its answer."""

    def __init__(self, query: bytes) -> None:
        self.query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.DatagramTransport, transport).sendto(self.query)

    def datagram_received(self, data: bytes, addr: object) -> None:
        question = self.query[12:-11]
        if len(data) >= 12 and data[:2] == self.query[:2] and data[2] & 0x80 and not self.answer.done():
            asked = data[12 : 12 + len(question)]
            if asked.lower() == question.lower() or data[4:6] == b"\0\0":
                self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(ResolveFailed(str(exc)))


async def ask_upstream(question: Question, servers: Sequence[tuple[str, int]], timeout_s: float) -> bytes:
    """Ask the servers one after the other; the first answer wins. Raises ResolveFailed."""
    loop = asyncio.get_running_loop()
    query = make_query(question, secrets.randbelow(65_536))
    each_s = timeout_s / max(len(servers), 1)
    for address, port in servers:
        try:
            async with asyncio.timeout(each_s):
                exchange = _Exchange(query)
                transport, _ = await loop.create_datagram_endpoint(lambda it=exchange: it, remote_addr=(address, port))  # type: ignore[misc]
                try:
                    data = await exchange.answer
                finally:
                    transport.close()
                return await _ask_by_tcp(query, address, port) if data[2] & 0x02 else data
        except (OSError, TimeoutError, ResolveFailed):
            continue
    raise ResolveFailed(f"no answer from {len(servers)} name servers")


async def _ask_by_tcp(query: bytes, address: str, port: int) -> bytes:
    """The answer was too long for a datagram."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(struct.pack(">H", len(query)) + query)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as problem:
        raise ResolveFailed("cut short") from problem
    finally:
        writer.close()


async def answer(
    question: Question,
    servers: Sequence[tuple[str, int]],
    known: Callable[[str], Sequence[Address] | None],
    allowed: Callable[[Address], bool],
    timeout_s: float,
) -> bytes:
    """Answer one question of a sandbox. `known` gives the addresses of names the gate resolves itself."""
    if question.kind != IN:
        return make_answer(question, REFUSED)
    if question.type == AAAA:
        return make_answer(question, NO_ERROR)
    if question.type == A and (addresses := known(question.name)) is not None:
        return make_answer(question, NO_ERROR, [(item, 10) for item in addresses if item.version == 4])
    if question.type != A and question.type not in PASSED_TYPES:
        return make_answer(question, REFUSED)
    try:
        data = await ask_upstream(question, servers, timeout_s)
        if question.type != A:
            passed = struct.pack(">H", question.id) + data[2:]
            return passed if len(passed) <= UDP_BYTES else make_answer(question, NO_ERROR | 0x0200)
        code, records = read_addresses(data)
    except (ResolveFailed, ValueError):
        return make_answer(question, SERVER_FAILURE)
    return make_answer(question, code, [record for record in records if allowed(record[0])])


class Budget:
    """At most `per_second` questions a second, with a burst of two seconds' worth."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = 2.0 * per_second
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more question may be asked at `now` (monotonic seconds)."""
        if self._at is not None:
            self._left = min(2.0 * self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def lookup(name: str) -> list[Address]:
    """Resolve a name as this host does (hosts file and all); blocking. Empty when it cannot."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found))

"""The gate's name service reads questions strictly and makes its answers itself."""

import asyncio
import ipaddress
import struct
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearth.executor.sandbox import gate_dns
from hearth.executor.sandbox.gate_dns import (
    BadQuestion,
    Budget,
    Question,
    answer,
    make_answer,
    make_query,
    read_addresses,
    read_question,
)

NAME = b"\x06public\x04test\x00"


def question(kind: int = 1, name: bytes = NAME, id: int = 7) -> bytes:
    return struct.pack(">HHHHHH", id, 0x0100, 1, 0, 0, 0) + name + struct.pack(">HH", kind, 1)


def reply(query: bytes, records: list[bytes], code: int = 0, flags: int = 0x8180) -> bytes:
    head = query[:2] + struct.pack(">HHHHH", flags | code, 1, len(records), 0, 0)
    return head + query[12:-11] + b"".join(records)


def record(address: str, ttl: int = 5, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack(">HHIH", 1, 1, ttl, 4) + ipaddress.IPv4Address(address).packed


CNAME = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, 7) + b"\x05other\x00"


def test_a_question_is_read_and_its_answer_names_it() -> None:
    asked = read_question(question())
    assert (asked.id, asked.type, asked.name) == (7, 1, "public.test")
    made = make_answer(asked, 0, [(ipaddress.IPv4Address("198.51.100.7"), 5)])
    assert made[:2] == b"\0\7"
    assert read_addresses(made) == (0, [(ipaddress.IPv4Address("198.51.100.7"), 5)])


def test_the_upstream_question_has_its_own_id_and_the_same_name() -> None:
    query = make_query(read_question(question()), 0xBEEF)
    assert query[:2] == b"\xbe\xef"
    assert query[12 : 12 + len(NAME)] == NAME


@pytest.mark.parametrize(
    "data",
    [
        b"",
        question()[:11],
        question()[:-1],
        question()[:2] + b"\x81\x80" + question()[4:],
        question()[:4] + b"\0\2" + question()[6:],
        question(name=b"\xc0\x0c"),
        question(name=b"\x40" + b"x" * 64 + b"\0"),
        question(name=b"\x3f" + b"x" * 63),
        question(name=b"".join(b"\x3f" + b"x" * 63 for _ in range(5)) + b"\0"),
        question() + bytes(2_000),
    ],
)
def test_what_is_not_a_question_is_refused(data: bytes) -> None:
    with pytest.raises(BadQuestion):
        read_question(data)


@given(st.binary(max_size=120))
def test_junk_never_raises_anything_else(data: bytes) -> None:
    for read, error in ((read_question, BadQuestion), (read_addresses, ValueError)):
        try:
            assert callable(read)
            read(data)
        except error:
            pass


def test_addresses_are_found_behind_an_alias_and_lifetimes_are_capped() -> None:
    query = make_query(read_question(question()), 1)
    data = reply(query, [CNAME, record("198.51.100.7", 5), record("198.51.100.8", 99_999)])
    code, found = read_addresses(data)
    assert code == 0
    assert [(str(item), ttl) for item, ttl in found] == [("198.51.100.7", 5), ("198.51.100.8", 60)]


def test_the_budget_allows_a_burst_and_then_the_rate() -> None:
    budget = Budget(10)
    assert [budget.take(100.0) for _ in range(25)].count(True) == 20
    assert [budget.take(100.5) for _ in range(25)].count(True) == 5
    assert not budget.take(100.5)
    assert [budget.take(1_000.0) for _ in range(25)].count(True) == 20


class Server(asyncio.DatagramProtocol):
    """A name server whose reply is made by the test."""

    def __init__(self, make: Callable[[bytes], list[bytes]]) -> None:
        self.make = make
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.append(data)
        for item in self.make(data):
            cast(asyncio.DatagramTransport, self.transport).sendto(item, addr)


async def resolve(
    make: Callable[[bytes], list[bytes]], asked: bytes, known: dict[str, list[str]] | None = None
) -> tuple[bytes, int]:
    """The answer to a question with such a name server, and how often that was asked."""
    server = Server(make)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
    addresses = {name: [ipaddress.ip_address(item) for item in items] for name, items in (known or {}).items()}
    try:
        made = await answer(
            read_question(asked),
            [transport.get_extra_info("sockname")],
            addresses.get,
            lambda item: not item.is_private or str(item).startswith("198.51."),
            0.1,
        )
    finally:
        transport.close()
    return made, len(server.asked)


@pytest.mark.anyio
async def test_unreachable_addresses_are_left_out_of_an_answer() -> None:
    made, _ = await resolve(lambda query: [reply(query, [record("10.1.2.3"), record("198.51.100.7")])], question())
    assert [str(item) for item, _ in read_addresses(made)[1]] == ["198.51.100.7"]


@pytest.mark.anyio
async def test_answers_with_another_id_or_name_are_ignored() -> None:
    def spoofs(query: bytes) -> list[bytes]:
        other = query.replace(b"public", b"hacked")
        wrong = bytes((query[0] ^ 1, query[1])) + query[2:]
        return [
            reply(wrong, [record("198.51.100.1")]),
            reply(other, [record("198.51.100.2")]),
            reply(query, [record("198.51.100.7")]),
        ]

    made, _ = await resolve(spoofs, question())
    assert [str(item) for item, _ in read_addresses(made)[1]] == ["198.51.100.7"]


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "code"), [(28, 0), (12, 5), (255, 5), (252, 5)])
async def test_other_types_are_answered_without_asking_anyone(kind: int, code: int) -> None:
    made, asked = await resolve(lambda query: [], question(kind))
    assert (made[3] & 15, made[6:8], asked) == (code, b"\0\0", 0)


@pytest.mark.anyio
async def test_service_records_are_passed_on_under_the_askers_id() -> None:
    made, _ = await resolve(
        lambda query: [reply(query, [b"\xc0\x0c" + struct.pack(">HHIH", 16, 1, 5, 3) + b"\2hi"])], question(16)
    )
    assert made[:2] == b"\0\7"
    assert made.endswith(b"\2hi")


@pytest.mark.anyio
async def test_a_name_the_gate_resolves_itself_is_answered_from_there() -> None:
    made, asked = await resolve(lambda query: [], question(), {"public.test": ["10.9.9.9", "fd00::1"]})
    assert ([str(item) for item, _ in read_addresses(made)[1]], asked) == (["10.9.9.9"], 0)


@pytest.mark.anyio
async def test_a_silent_or_failing_name_server_is_a_server_failure() -> None:
    made, _ = await resolve(lambda query: [], question())
    assert made[3] & 15 == gate_dns.SERVER_FAILURE
    made, _ = await resolve(lambda query: [reply(query, [], code=3)], question())
    assert made[3] & 15 == gate_dns.NAME_ERROR


def test_the_name_is_for_comparing_only() -> None:
    assert Question(1, 0, b"\x03A.B\x00", 1, 1).name == "a.b"

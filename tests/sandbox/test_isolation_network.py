"""Isolation cases N: what can be reached, on a made-up internet (tests/sandbox/internet.py)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.spec import Network
from tests.sandbox import modes
from tests.sandbox.conftest import gate_config, spawner_config
from tests.sandbox.harness import LIMITS, Internet, in_network, output_of, outside, read_some, run, spec, until
from tests.sandbox.internet import BLOB

pytestmark = pytest.mark.anyio

GATE = {"network": Network.GATE}
FAILED = {"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EINVAL", "EAFNOSUPPORT"}
"""What a connect itself answers; ECONNRESET would be the gate closing a connection that had succeeded."""
PUBLIC = "198.51.100.7"


def refused(found: dict[str, list[object]], within_s: float = 1.0) -> None:
    """Each target failed, soon."""
    for target, (result, took_s) in found.items():
        assert result in FAILED or result == "gaierror", (target, result)
        assert isinstance(took_s, float)
        assert took_s < within_s, (target, took_s)


@pytest.fixture
async def quiet(internet: Internet) -> AsyncIterator[Internet]:
    """The internet with its counters at zero."""
    internet.seen()
    yield internet


async def test_N1_without_a_network_nothing_is_reached_and_it_fails_soon(driver: NsDriver, quiet: Internet) -> None:
    targets = [
        [PUBLIC, 80],
        ["10.1.2.3", 80],
        ["8.8.8.8", 53],
        ["2001:db8::1", 80],
        ["fe80::1", 80],
        ["public.test", 80],
    ]
    assert in_network(quiet.process.pid, lambda: outside("connects", {"targets": [[PUBLIC, 80]]})), "control"
    assert quiet.seen()["tcp"] == [[PUBLIC, 80]], "the control was seen"
    found = (await run(driver, "connects", {"targets": targets})).answer
    refused(found)
    sent = (
        await run(driver, "datagrams", {"targets": [[PUBLIC, 9999], ["127.0.0.1", 53], ["2001:db8::1", 53]]})
    ).answer
    assert set(sent.values()) <= {"ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL"}
    names = (await run(driver, "resolves", {"names": ["public.test"]})).answer
    assert names["public.test"] == "gaierror"
    assert (await run(driver, "read_all", {"paths": ["/etc/resolv.conf"]})).answer["/etc/resolv.conf"] == ""
    assert quiet.seen() == {"tcp": [], "udp": [], "questions": 0}


@pytest.mark.parametrize("network", list(Network))
async def test_N2_loopback_in_any_form_is_the_sandboxs_own(driver: NsDriver, quiet: Internet, network: Network) -> None:
    hosts = [
        "127.0.0.1",
        "127.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
        "2130706433",
        "0177.0.0.1",
        "127.9.9.9",
    ]
    targets = [[host, port] for host in hosts for port in (8080, 80)]
    found = (await run(driver, "connects", {"targets": targets}, network=network)).answer
    refused(found)
    assert quiet.seen()["tcp"] == []


async def test_N3_the_hosts_own_addresses_are_refused(driver: NsDriver, quiet: Internet) -> None:
    targets = [[host, port] for host in ("203.0.113.1", "198.51.100.250") for port in (22, 80, 443, 5432, 8080)]
    found = (await run(driver, "connects", {"targets": targets}, **GATE)).answer
    refused(found)
    assert quiet.seen()["tcp"] == []


async def test_N4_private_metadata_and_translated_forms_are_refused(driver: NsDriver, quiet: Internet) -> None:
    hosts = ["10.1.2.3", "172.16.0.1", "172.31.255.1", "192.168.7.7", "100.64.1.1", "169.254.169.254", "192.0.0.192"]
    hosts += ["198.18.0.1", "240.0.0.1", "224.0.0.251", "255.255.255.255", "0.1.2.3", "fd00::1", "fe80::1"]
    hosts += ["64:ff9b::a01:203", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "private.test"]
    found = (await run(driver, "connects", {"targets": [[host, 80] for host in hosts]}, **GATE)).answer
    refused(found)
    assert quiet.seen()["tcp"] == []


async def test_N5_public_addresses_work_and_bytes_are_exact(driver: NsDriver, quiet: Internet) -> None:
    targets = [[PUBLIC, 80], [PUBLIC, 443], ["203.0.113.9", 80], ["public.test", 80], [f"::ffff:{PUBLIC}", 80]]
    found = (await run(driver, "connects", {"targets": targets}, **GATE)).answer
    for target, (result, _) in found.items():
        assert "HTTP/1.0 200" in str(result), (target, result)
    got = (await run(driver, "download", {"url": "http://public.test/blob"}, **GATE)).answer["got"]
    assert got == {"length": len(BLOB), "sha256": hashlib.sha256(BLOB).hexdigest()}
    echo = (await run(driver, "half_close", {"target": [PUBLIC, 80]}, **GATE)).answer
    assert echo == {"equal": True, "length": 1 << 20}
    assert {tuple(pair) for pair in quiet.seen()["tcp"]} == {(PUBLIC, 80), (PUBLIC, 443), ("203.0.113.9", 80)}


async def test_N5_a_server_that_speaks_first_and_leaves_is_heard_every_time(driver: NsDriver, quiet: Internet) -> None:
    heard = (await run(driver, "greetings", {"target": [PUBLIC, 22], "count": 150}, **GATE)).answer
    assert heard == ["SSH-2.0-canary\r\n"]


async def test_N5_the_allow_list_and_the_registries_open_exactly_themselves(driver: NsDriver, quiet: Internet) -> None:
    targets = [["10.5.5.5", 8080], ["10.5.5.5", 80], ["10.5.5.6", 8080], ["172.16.9.9", 443], ["172.16.9.9", 80]]
    found = (await run(driver, "connects", {"targets": targets}, **GATE)).answer
    assert "200 OK" in found.pop("10.5.5.5 8080")[0]
    assert "200 OK" in found.pop("172.16.9.9 443")[0]
    for other_port in ("10.5.5.5 80", "172.16.9.9 80"):
        assert found.pop(other_port)[0] in {"ECONNRESET", "closed"}, "of an opened address the gate decides the port"
    refused(found)
    assert quiet.seen()["tcp"] == [["10.5.5.5", 8080], ["172.16.9.9", 443]]


async def test_N5_the_platforms_api_has_a_name_and_one_port(driver: NsDriver, quiet: Internet) -> None:
    targets = [["hearth.internal", 80], ["169.254.100.1", 80], ["169.254.100.1", 8080], ["169.254.100.2", 80]]
    found = (await run(driver, "connects", {"targets": targets}, **GATE)).answer
    assert '"port": 8080' in found.pop("hearth.internal 80")[0]
    assert '"address": "127.0.0.1"' in found.pop("169.254.100.1 80")[0]
    assert found.pop("169.254.100.1 8080")[0] in {"ECONNRESET", "closed"}
    refused(found)
    assert quiet.seen()["tcp"] == [["127.0.0.1", 8080]] * 2


async def test_N6_a_name_that_turns_private_and_a_redirect_lead_nowhere(driver: NsDriver, quiet: Internet) -> None:
    first = (await run(driver, "connects", {"targets": [["turning.test", 80]]}, **GATE)).answer
    assert "200 OK" in first["turning.test 80"][0]
    later = (await run(driver, "connects", {"targets": [["turning.test", 80], ["10.1.2.3", 80]]}, **GATE)).answer
    refused(later)
    both = (await run(driver, "resolves", {"names": ["both.test", "private.test"]}, **GATE)).answer
    assert both["both.test"][0] == [PUBLIC]
    assert both["private.test"] == "gaierror"
    away = (await run(driver, "download", {"url": "http://public.test/away"}, **GATE)).answer
    assert away["got"] in ("URLError", "ECONNREFUSED") or "refused" in str(away["got"])
    assert {tuple(pair) for pair in quiet.seen()["tcp"]} == {(PUBLIC, 80)}


async def test_N7_neighbours_cannot_be_reached_and_no_datagram_leaves(driver: NsDriver, quiet: Internet) -> None:
    sent = (await run(driver, "datagrams", {"targets": [[PUBLIC, 9999], ["224.0.0.251", 5353]]}, **GATE)).answer
    assert not any(result == "canary" for result in sent.values())
    assert quiet.seen()["udp"] == []
    own = (await run(driver, "connects", {"targets": [["127.0.0.1", 3000], ["127.0.0.1", 47001]]}, **GATE)).answer
    assert own.pop("127.0.0.1 47001")[0] in {"ECONNRESET", "closed"}, "the gate's own port leads nowhere"
    refused(own)


async def test_N9_the_mail_port_is_refused(driver: NsDriver, quiet: Internet) -> None:
    refused((await run(driver, "connects", {"targets": [[PUBLIC, 25], ["203.0.113.9", 25]]}, **GATE)).answer)
    assert quiet.seen()["tcp"] == []


async def test_N9_connections_are_capped_per_sandbox_and_a_neighbour_still_connects_soon(
    driver: NsDriver, quiet: Internet
) -> None:
    limits = replace(LIMITS, pids=32)
    greedy = asyncio.ensure_future(
        run(driver, "many_connections", {"count": 300, "target": [PUBLIC, 80]}, limits=limits, **GATE)
    )
    neighbour = (await run(driver, "connects", {"targets": [[PUBLIC, 443]]}, **GATE)).answer
    result, took_s = neighbour[f"{PUBLIC} 443"]
    assert "200 OK" in result
    assert took_s < 1
    assert (await greedy).answer == {"alive": 64}


async def test_N9_five_thousand_attempts_hold_no_more_than_the_cap(driver: NsDriver, quiet: Internet) -> None:
    args = {"count": 5_000, "target": [PUBLIC, 80]}
    limits = replace(LIMITS, open_files=8_192)
    found = (await run(driver, "many_connections", args, limits=limits, timeout_s=60, **GATE)).answer
    assert found == {"alive": 64}
    assert len(quiet.seen()["tcp"]) == 64


async def test_N9_a_gibibyte_flows_through_and_costs_the_gate_little(driver: NsDriver, quiet: Internet) -> None:
    """Bounded by back pressure: the bytes are exact, the gate keeps its size, a neighbour connects within a second."""
    assert driver._gate is not None
    await run(driver, "transfer", {"target": [PUBLIC, 80], "mib": 16}, **GATE)
    before = resident_kb(driver._gate.process.pid)
    greedy = asyncio.ensure_future(
        run(driver, "transfer", {"target": [PUBLIC, 80], "mib": 1_024}, timeout_s=60, **GATE)
    )
    result, took_s = (await run(driver, "connects", {"targets": [[PUBLIC, 443]]}, **GATE)).answer[f"{PUBLIC} 443"]
    assert "200 OK" in result
    assert took_s < 1
    found = (await greedy).answer
    assert found["bytes"] == 1 << 30
    assert resident_kb(driver._gate.process.pid) - before < 8 * 1_024


async def test_N9_connections_held_open_byte_by_byte_do_not_delay_a_neighbour(
    driver: NsDriver, quiet: Internet
) -> None:
    box = await driver.start(spec("slow_loris", {"target": [PUBLIC, 80], "count": 200, "rounds": 100}, **GATE))
    assert b'"held": ' in await read_some(box.output)
    for _ in range(3):
        result, took_s = (await run(driver, "connects", {"targets": [[PUBLIC, 443]]}, **GATE)).answer[f"{PUBLIC} 443"]
        assert "200 OK" in result
        assert took_s < 1
    await box.kill()
    await output_of(box)


def resident_kb(pid: int) -> int:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(rows["VmRSS"].split()[0])


async def test_N9_questions_are_capped_per_sandbox(driver: NsDriver, quiet: Internet) -> None:
    found = (await run(driver, "many_questions", {"count": 10_000}, **GATE)).answer
    assert 50 <= found["answered"] <= 1_000
    assert found["refused"] > 1_000
    assert quiet.seen()["questions"] <= 1_000


async def test_a_sandbox_that_ends_takes_its_connections_with_it(driver: NsDriver, quiet: Internet) -> None:
    box = await driver.start(
        spec("connects", {"targets": [[PUBLIC, 80]], "timeout": 20}, **GATE, argv=hold_command(), channel=True)
    )
    assert await read_some(box.output) == b"open\n"
    await until(lambda: quiet.held() == 1, 2, "the connection is there")
    await box.kill()
    await output_of(box)
    await until(lambda: quiet.held() == 0, 2, "the connection is gone")
    answer = await run(driver, "connects", {"targets": [[PUBLIC, 80]]}, **GATE)
    assert "200 OK" in answer.text, "the gate goes on"


def hold_command() -> tuple[str, ...]:
    code = (
        f"import socket; s = socket.create_connection(('{PUBLIC}', 80)); s.sendall(b'hold\\n'); "
        "print('open', flush=True); s.recv(1)"
    )
    return ("/usr/bin/python3", "-I", "-S", "-c", code)


async def test_the_gate_can_go_out_in_another_network_namespace(
    quiet: Internet, data_folder: Path, owner: modes.Owner
) -> None:
    """What whole-server tests use to have a made-up internet while the server itself stays on the host's network."""
    folder = data_folder / "elsewhere"
    folder.mkdir()
    config = replace(gate_config(), network_namespace=f"/proc/{quiet.process.pid}/ns/net")
    bounds = owner.adapted(spawner_config(folder)) if owner.driver == "docker" else spawner_config(folder)
    driver = NsDriver(start_spawner(bounds), start_gate(config))
    try:
        found = (await run(driver, "connects", {"targets": [["public.test", 80], ["203.0.113.1", 80]]}, **GATE)).answer
    finally:
        await driver.close()
    assert "200 OK" in found["public.test 80"][0]
    assert found["203.0.113.1 80"][0] == "ECONNRESET", "an own address of that namespace: the gate decides"
    assert quiet.seen()["tcp"] == [[PUBLIC, 80]]

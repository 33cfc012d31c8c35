"""Isolation case N5 for one function: its own list opens exactly what it names, and `none` opens nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.spec import Network, SandboxFailed
from tests.sandbox.harness import Internet, read_some, run, spec, until

pytestmark = pytest.mark.anyio

PUBLIC = "198.51.100.7"
TARGETS = [
    [PUBLIC, 80],
    [PUBLIC, 443],
    ["public.test", 80],
    ["203.0.113.9", 80],
    ["10.5.5.5", 8080],
    ["hearth.internal", 80],
    ["10.1.2.3", 80],
]
REFUSED = {"ECONNREFUSED", "ECONNRESET", "closed", "gaierror", "ENETUNREACH", "EHOSTUNREACH"}


@pytest.fixture
async def quiet(internet: Internet) -> AsyncIterator[Internet]:
    """The internet with its counters at zero."""
    internet.seen()
    yield internet


async def reached(driver: NsDriver, *allow: str, targets: list[list[Any]] = TARGETS) -> set[str]:
    """What of the targets a sandbox with this list reaches."""
    found = await run(driver, "connects", {"targets": targets}, network=Network.GATE, egress=allow)
    outcomes = {target: str(result) for target, (result, _) in found.answer.items()}
    good = {target for target, result in outcomes.items() if "200 OK" in result}
    assert {outcomes[target] for target in outcomes.keys() - good} <= REFUSED, outcomes
    return good


async def test_N5_without_a_list_everything_allowed_is_reached(driver: NsDriver, quiet: Internet) -> None:
    found = (await run(driver, "connects", {"targets": TARGETS}, network=Network.GATE)).answer
    assert sum("200 OK" in str(result) for result, _ in found.values()) == len(TARGETS) - 1, "control"


async def test_N5_none_reaches_nothing_and_asks_nothing(driver: NsDriver, quiet: Internet) -> None:
    assert await reached(driver) == set()
    names = {"names": ["public.test", "secret-in-a-name.public.test"]}
    assert set((await run(driver, "resolves", names, network=Network.GATE, egress=())).answer.values()) == {"gaierror"}
    assert quiet.seen() == {"tcp": [], "udp": [], "questions": 0}
    await until(
        lambda: driver.egress_refused["not in the function's list"] >= 6, 10, "the gate to tell what it refused"
    )


async def test_N5_a_list_opens_its_names_and_networks_with_their_ports(driver: NsDriver, quiet: Internet) -> None:
    assert await reached(driver, "public.test:80", targets=[["public.test", 80], ["public.test", 443]]) == {
        "public.test 80"
    }
    assert await reached(driver, "203.0.113.0/24:80") == {"203.0.113.9 80"}
    assert await reached(driver, "hearth.internal:80") == {"hearth.internal 80"}
    # Within the operator's rules: what these deny no function can open for itself, what they open it has to name.
    assert await reached(driver, "10.0.0.0/8", "0.0.0.0/0:443") == {"10.5.5.5 8080", f"{PUBLIC} 443"}
    assert ["10.1.2.3", 80] not in quiet.seen()["tcp"]


async def test_N5_a_running_sandbox_is_limited_before_the_call_returns(driver: NsDriver, quiet: Internet) -> None:
    """As a stem cell is when it becomes the instance of a function: from then on its code may run."""
    box = await driver.start(spec("connects", {}, network=Network.GATE, argv=asking_command(), channel=True))
    assert box.channel is not None
    assert await read_some(box.output) == b"200 OK\n"
    await box.limit_egress(["203.0.113.9:80"])
    box.channel.send(b"go")
    assert await read_some(box.output) in (b"refused\n", b"closed\n")
    await box.limit_egress(["203.0.113.9:80", f"{PUBLIC}:80"])
    box.channel.send(b"go")
    assert await read_some(box.output) == b"200 OK\n"
    await box.kill()
    with pytest.raises(SandboxFailed, match="egress"):
        await box.limit_egress([])
    box.channel.close()
    assert len(quiet.seen()["tcp"]) == 2


async def test_a_list_for_a_sandbox_without_a_gate_fails_the_start(driver: NsDriver) -> None:
    with pytest.raises(SandboxFailed, match="egress"):
        await driver.start(spec("connects", {"targets": []}, network=Network.NONE, egress=()))


def asking_command() -> tuple[str, ...]:
    code = f"""
import os, socket
while True:
    try:
        with socket.create_connection(('{PUBLIC}', 80), 5) as s:
            s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            print('200 OK' if b'200 OK' in s.recv(999) else 'closed', flush=True)
    except OSError:
        print('refused', flush=True)
    if not os.read(3, 2):
        break
"""
    return ("/usr/bin/python3", "-I", "-S", "-c", code)

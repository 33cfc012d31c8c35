"""Whatever a process inside does, only its own executions notice, and they are told why."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.model.refusals import Unavailable
from hearth.model.running import Outcome
from tests.executor.bad_actors import BAD_PACKS
from tests.executor.conftest import LIMITS, STEMS
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import Bench, FakePacks, open_bench

pytestmark = pytest.mark.anyio

CODE = {"main.py": "def main(context):\n    return context.res.text('fine')\n"}


async def others_still_run(bench: Bench) -> None:
    result = await bench.run(bench.deploy("python-3.11", "main.py", CODE))
    assert result.body == b"fine"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dies-at-once", r"exited with code 7 before it was ready\. no such library"),
        ("no-such-runtime", "not installed"),
    ],
)
async def test_an_instance_that_cannot_start_is_our_fault(bench: Bench, name: str, text: str) -> None:
    with pytest.raises(Unavailable, match=text):
        await bench.run(bench.deploy(f"bad-{name}", "x", CODE))
    await others_still_run(bench)


@pytest.fixture(params=DRIVERS)
async def impatient(request: pytest.FixtureRequest, from_stems: bool, tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench that waits no longer for what never comes than it must."""
    limits = replace(LIMITS, start_timeout_s=0.5, stems=STEMS if from_stems else LIMITS.stems)
    driver = make_driver(request.param, tmp_path)
    async with open_bench(driver, tmp_path, limits, FakePacks(*BAD_PACKS), from_stems) as opened:
        yield opened


@pytest.mark.slow
async def test_a_language_server_that_never_reports(impatient: Bench) -> None:
    with pytest.raises(Unavailable, match=r"did not report within 0\.5 seconds"):
        await impatient.run(impatient.deploy("bad-never-reports", "x", CODE))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("never-loads", "The code did not finish loading within 1.5 seconds.\nstill thinking\n"),
        ("dies-while-loading", "The function's process exited with code 8.\nout of luck\n"),
        ("junk-while-loading", "wrote to its control channel what must not be there"),
    ],
)
async def test_code_that_does_not_load_is_the_functions_fault(bench: Bench, name: str, text: str) -> None:
    result = await bench.run(bench.deploy(f"bad-{name}", "x", CODE))
    assert (result.outcome, result.status_code) == (Outcome.LOAD_FAILED, 503)
    assert text in result.errors
    await others_still_run(bench)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dies-while-busy", "The function's process exited with code 9.\nlast words\n"),
        ("half-a-frame", "The function's process exited with code 3.\n"),
        ("junk", "wrote to its control channel what must not be there"),
        ("huge-frame", "wrote to its control channel what must not be there: a frame of 104857600 bytes"),
        ("reply-to-another", "a reply to a request that is not running"),
        ("replies-twice", "a second response to one request"),
        ("body-first", "a body before its response"),
        ("says-ready-twice", "ReadyFrame out of turn"),
    ],
)
async def test_a_process_that_breaks_ends_alone(bench: Bench, name: str, text: str) -> None:
    """P14: junk, half messages, 100 MiB, replies for other requests."""
    result = await bench.run(bench.deploy(f"bad-{name}", "x", CODE))
    assert (result.outcome, result.status_code, result.body) == (Outcome.CRASHED, 500, b"")
    assert text in result.errors
    await others_still_run(bench)


@pytest.mark.slow
async def test_a_process_that_lets_go_of_its_channel_is_ended(bench: Bench) -> None:
    result = await bench.run(bench.deploy("bad-lets-go", "x", CODE))
    assert result.outcome is Outcome.CRASHED
    assert "closed its control channel" in result.errors


async def test_a_process_that_says_half_a_word_times_out(bench: Bench) -> None:
    result = await bench.run(bench.deploy("bad-half-a-frame-and-waits", "x", CODE), timeout_s=0.05)
    assert (result.outcome, result.errors) == (Outcome.TIMED_OUT, "Execution timed out.\n")


async def test_an_endless_response_is_cut(bench: Bench) -> None:
    """R9"""
    result = await bench.run(bench.deploy("bad-endless-body", "x", CODE))
    assert (result.status_code, result.body) == (500, b"")
    assert result.errors == "The response body is larger than the limit of 20971520 bytes.\n"
    await others_still_run(bench)


async def test_headers_are_checked_here_and_not_only_in_the_shim(bench: Bench) -> None:
    """R9: header injection with CR/LF"""
    result = await bench.run(bench.deploy("bad-splits-headers", "x", CODE))
    assert result.headers == (("ok", "g"),)
    assert len(re.findall("was dropped", result.errors)) == 2


async def test_an_instance_that_ends_when_idle_is_replaced(bench: Bench) -> None:
    template = bench.deploy("bad-dies-when-idle", "x", CODE)
    for _ in range(3):
        result = await bench.run(template)
        assert result.outcome in (Outcome.COMPLETED, Outcome.CRASHED)  # it may die just as the next request arrives
    await others_still_run(bench)


def peak_memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", ["floods", "long-line"])
async def test_a_flood_of_output_costs_bounded_memory(bench: Bench, name: str) -> None:
    """R8: 256 MiB of bad UTF-8 and NUL on stdout, or one line of 100 MiB: capped, marked, valid text."""
    template = bench.deploy(f"bad-{name}", "x", CODE)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = peak_memory_mb()
    result = await bench.run(template, timeout_s=60)
    assert peak_memory_mb() - before < 32
    text = result.logs if name == "floods" else result.errors
    assert len(text) == 1_000_000
    assert "truncated. The output exceeded 1000000 characters." in text.splitlines()[0]
    assert "\0" not in text
    assert text.encode()
    if name == "floods":
        assert result.logs.endswith("the end\n")


async def test_no_descriptor_is_left_behind(bench: Bench) -> None:
    """After instances of every kind have come and gone, as many descriptors are open as before."""
    if bench.from_stems:
        pytest.skip("stems come and go by themselves: test_stem_cells has this rule for them")
    for round in range(3):
        for name in ("dies-at-once", "dies-while-loading", "dies-while-busy", "junk", "reply-to-another"):
            try:
                await bench.run(bench.deploy(f"bad-{name}", "x", CODE))
            except Unavailable:
                continue
        if round == 0:
            opened = open_descriptors()
    for _ in range(1_000):  # the last of them may still be going
        if open_descriptors() <= opened:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{open_descriptors()} are open, where {opened} were")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))

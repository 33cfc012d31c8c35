"""The log of a build: in order, soon, and bounded whatever the build prints."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from hearth.build import flow as flow_module
from hearth.build.flow import LogFlow, OutputPump


def test_a_platform_line_goes_out_at_once_and_after_what_came_before() -> None:
    pieces: list[str] = []
    flow = LogFlow(pieces.append)
    flow.feed(b"output\n")
    flow.say("Build failed.")
    assert len(pieces) == 1
    assert pieces[0].startswith("output\n")
    assert "[open-runtimes]" in pieces[0].replace("\x1b[31m", "").replace("\x1b[0m", "")


def test_characters_split_over_two_reads_come_out_whole_and_rubbish_is_replaced() -> None:
    pieces: list[str] = []
    flow = LogFlow(pieces.append)
    data = "grün\0 ✓ ".encode() + b"\xff\n"
    for byte in data:
        flow.feed(bytes([byte]))
    flow.flush()
    assert "".join(pieces) == "grün ✓ \ufffd\n"


def test_of_too_much_at_once_the_end_is_kept_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "PENDING_CHARS", 10)
    pieces: list[str] = []
    flow = LogFlow(pieces.append)
    for text in (b"0123456", b"789abcdef", b"XY"):
        flow.feed(text)
    flow.flush()
    assert pieces[0].endswith("89abcdefXY")
    assert "8 characters of output left out." in pieces[0]


def test_a_build_that_floods_its_log_is_handed_on_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "QUIET_CHARS", 1_000)
    monkeypatch.setattr(flow_module, "FLOOD_CHARS", 50)
    pieces: list[str] = []
    flow = LogFlow(pieces.append)
    for _ in range(20):
        flow.feed(b"y" * 1_001)
        flow.flush()
    assert len(pieces[0]) == 1_001
    assert all(len(piece) < 200 for piece in pieces[1:])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)


@pytest.mark.anyio
async def test_output_is_handed_on_within_200_ms(pipe: tuple[int, int]) -> None:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[float] = loop.create_future()
    flow = LogFlow(lambda text: arrived.done() or arrived.set_result(loop.time()))
    pump = OutputPump(pipe[0], flow)
    written = loop.time()
    os.write(pipe[1], b"hello\n")
    assert await asyncio.wait_for(arrived, 5) - written < 0.2
    os.close(pipe[1])
    pump.finish()


@pytest.mark.anyio
async def test_the_rest_of_the_pipe_is_taken_at_the_end(pipe: tuple[int, int]) -> None:
    pieces: list[str] = []
    pump = OutputPump(pipe[0], LogFlow(pieces.append))
    os.write(pipe[1], b"last words")
    os.close(pipe[1])
    pump.finish()
    assert pieces == ["last words"]


@pytest.mark.anyio
async def test_a_flood_is_read_no_faster_than_it_is_handed_on(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_module, "READ_BYTES", 100_000)
    monkeypatch.setattr(flow_module, "FLUSH_S", 0.02)
    sizes: list[int] = []
    flow = LogFlow(lambda text: sizes.append(len(text)))
    pump = OutputPump(pipe[0], flow)
    os.set_blocking(pipe[1], False)
    sent = 0
    end = asyncio.get_running_loop().time() + 0.1
    while asyncio.get_running_loop().time() < end:
        try:
            sent += os.write(pipe[1], b"y" * 65_536)
        except BlockingIOError:
            await asyncio.sleep(0)
    os.close(pipe[1])
    pump.finish()
    assert sum(sizes) == sent
    assert max(sizes) <= 100_000 + 2 * 65_536
    assert 2 <= len(sizes) <= 8

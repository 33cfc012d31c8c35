"""Lines of the log: JSON one a line, with the ids of what they are about (`hearth.telemetry`, `hearth.log_context`)."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hearth import log_context, telemetry

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is written, in JSON; logging is as it was afterwards."""
    out, root = io.StringIO(), logging.getLogger()
    before, level, handlers = structlog.get_config(), root.level, root.handlers[:]
    telemetry.configure("info", "json", out)
    try:
        yield out
    finally:
        structlog.configure(**before)
        root.setLevel(level)
        root.handlers[:] = handlers


def read(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


async def test_a_line_carries_the_ids_of_its_task_and_of_no_other(lines: io.StringIO) -> None:
    log = structlog.get_logger("test")

    async def about(number: int) -> None:
        log_context.begin(execution_id=f"e{number}", function_id="f", deployment_id="")
        await asyncio.sleep(0)
        log.info("said", number=number)

    log_context.begin(request_id="r")
    await asyncio.gather(about(1), about(2))
    log.info("mine")
    loop = asyncio.get_running_loop()
    await loop.create_task(_say(log), context=log_context.blank())
    said = [{key: value for key, value in line.items() if key not in ("timestamp", "level")} for line in read(lines)]
    assert said == [
        {"event": "said", "number": 1, "execution_id": "e1", "function_id": "f"},
        {"event": "said", "number": 2, "execution_id": "e2", "function_id": "f"},
        {"event": "mine", "request_id": "r"},
        {"event": "of nobody"},
    ]


async def _say(log: Any) -> None:
    log.info("of nobody")


async def test_libraries_write_the_same_form_with_the_same_ids(lines: io.StringIO) -> None:
    log_context.begin(job_id="j")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("a.library").exception("went wrong")
    logging.getLogger("a.library").info("nobody needs this")
    [line] = read(lines)
    assert (line["event"], line["logger"], line["level"], line["job_id"]) == ("went wrong", "a.library", "error", "j")
    assert "ValueError: why" in line["exception"]


@pytest.mark.parametrize(
    ("given", "taken"), [(b"abc-1.2_3:4", True), (b"", False), (b"a b", False), (b"x" * 129, False)]
)
async def test_a_caller_names_his_request_if_the_name_is_fit_for_a_log(given: bytes, taken: bool) -> None:
    log_context.begin()
    id = log_context.begin_request(given)
    assert (id == given.decode()) is taken
    assert log_context.request_id() == id

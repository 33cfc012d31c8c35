"""The upload body, with every quirk of the clients in use (contract: functions-api 5.7 and 8, clients 3)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hearth.api.uploads import FIELD_MAX_BYTES
from hearth.model.refusals import Refusal
from tests.api.support import World

pytestmark = pytest.mark.anyio

DEPLOYMENTS = "/v1/functions/f1/deployments"
BOUNDARY = "----formdata-undici-0123456789"
CONTENT_TYPE = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
ARCHIVE = bytes(range(256)) * 4 + b"\r\n--not the boundary\r\n"


def part(name: str, value: bytes, filename: str | None = None, content_type: str | None = None) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    if content_type is not None:
        head += f"\r\nContent-Type: {content_type}"
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


NODE = (
    part("entrypoint", b"main.js"),
    part("commands", b"npm install"),
    part("code", ARCHIVE, "code.tar.gz", "application/octet-stream"),
    part("activate", b"true"),
)
PYTHON = (part("activate", b"true"), part("code", ARCHIVE, "code.tar.gz"))


async def send(world: World, body: Any, headers: dict[str, str] | None = None) -> Any:
    async with world.client() as client:
        return await client.post(DEPLOYMENTS, content=body, headers=CONTENT_TYPE | (headers or {}))


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [3, 61, 1_000, 10**6])
async def test_the_archive_arrives_byte_for_byte_however_the_body_is_cut(world: World, size: int) -> None:
    answer = await send(world, in_pieces(form(*NODE), size))
    assert answer.status_code == 202
    assert world.deployments.received == [ARCHIVE]


async def test_node_sends_fields_after_the_file(world: World) -> None:
    await send(world, form(*NODE))
    (_, _, arguments) = world.deployments.calls[1]
    sent = arguments["part"]
    assert (sent.filename, sent.size_bytes) == ("code.tar.gz", len(ARCHIVE))
    assert (arguments["activate"], arguments["entrypoint"], arguments["commands"]) == (True, "main.js", "npm install")
    assert (arguments["content_range"], arguments["upload_id"], arguments["type"]) == (None, "", "manual")


async def test_python_sends_a_file_part_without_content_type(world: World) -> None:
    answer = await send(world, form(*PYTHON))
    assert answer.status_code == 202
    assert world.deployments.received == [ARCHIVE]
    assert (world.deployments.calls[1][2]["entrypoint"], world.deployments.calls[1][2]["commands"]) == (None, None)


async def test_chunk_headers_reach_control_as_they_are(world: World) -> None:
    headers = {"content-range": "bytes 0-9/20", "x-appwrite-id": "d9", "x-sdk-language": "cli"}
    await send(world, form(*PYTHON), headers)
    arguments = world.deployments.calls[1][2]
    assert (arguments["content_range"], arguments["upload_id"], arguments["type"]) == ("bytes 0-9/20", "d9", "cli")


async def test_the_chunk_repeated_as_a_part_named_file_is_dropped(world: World) -> None:
    """node 14 and 17 send the whole file as `code` and the chunk again as `file`."""
    await send(world, form(*PYTHON, part("file", b"the chunk", "blob", "application/octet-stream")))
    assert world.deployments.received == [ARCHIVE]


async def test_the_first_of_several_files_named_code_counts(world: World) -> None:
    await send(world, form(*PYTHON, part("code", b"second", "other.tar.gz")))
    assert world.deployments.received == [ARCHIVE]


async def test_every_accepted_request_is_answered_with_the_upload_counters(world: World) -> None:
    """The SDKs read them from each answer (contract: clients 3)."""
    answer = await send(world, form(*PYTHON), {"content-range": "bytes 0-9/20"})
    assert (answer.json()["chunksTotal"], answer.json()["chunksUploaded"], answer.json()["$id"]) == (3, 2, "d1")


async def test_an_unknown_function_is_refused_before_the_body_is_read(world: World) -> None:
    steps: list[str] = []

    async def check(*_: Any) -> Refusal:
        steps.append("checked")
        return Refusal("function_not_found")

    async def body() -> AsyncIterator[bytes]:
        steps.append("read")
        yield form(*PYTHON)

    world.deployments.results["check_upload"] = check
    answer = await send(world, body())
    assert (answer.status_code, answer.json()["type"]) == (404, "function_not_found")
    assert steps[0] == "checked"
    assert [call[0] for call in world.deployments.calls] == ["check_upload"]


async def test_activate_is_mandatory_and_checked_before_control_sees_the_upload(world: World) -> None:
    missing = await send(world, form(part("code", ARCHIVE, "code.tar.gz")))
    wrong = await send(world, form(part("activate", b"yes"), part("code", ARCHIVE, "code.tar.gz")))
    assert missing.json()["message"] == 'Param "activate" is not optional.'
    assert wrong.json()["message"].startswith("Invalid `activate` param: ")
    assert "upload" not in [call[0] for call in world.deployments.calls]


@pytest.mark.parametrize(
    "body",
    [form(part("activate", b"true")), form(part("activate", b"true"), part("code", b"text, not a file"))],
    ids=["no part", "a field instead"],
)
async def test_without_a_file_control_decides(world: World, body: bytes) -> None:
    """Whether the file or the entrypoint is missed first is control's order."""
    await send(world, body)
    assert world.deployments.calls[1][2]["part"] is None


async def test_a_body_that_is_no_form_has_no_file(world: World) -> None:
    async with world.client() as client:
        await client.post(DEPLOYMENTS, json={"activate": True, "entrypoint": "main.py"})
    arguments = world.deployments.calls[1][2]
    assert (arguments["part"], arguments["activate"], arguments["entrypoint"]) == (None, True, "main.py")


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage", form(*PYTHON)[:-10], form(*PYTHON)[:300], b"--" + BOUNDARY.encode() + b"\nx\n"],
    ids=["empty", "garbage", "no end", "cut in the file", "bare line feeds"],
)
async def test_a_broken_form_is_a_clear_400(world: World, body: bytes) -> None:
    answer = await send(world, body)
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert "multipart form" in answer.json()["message"]
    assert "upload" not in [call[0] for call in world.deployments.calls]


async def test_a_form_without_boundary_is_a_clear_400(world: World) -> None:
    answer = await send(world, form(*PYTHON), {"content-type": "multipart/form-data"})
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")


async def test_an_archive_over_the_limit_is_refused_while_it_streams() -> None:
    world = World(source_max_bytes=1_000)
    exact = await send(world, form(part("activate", b"1"), part("code", b"x" * 1_000, "c.gz")))
    over = await send(world, in_pieces(form(part("activate", b"1"), part("code", b"x" * 5_000, "c.gz")), 500))
    assert exact.status_code == 202
    assert (over.status_code, over.json()["type"]) == (400, "deployment_invalid_file_size")
    assert "1000 bytes" in over.json()["message"]


async def test_one_stray_byte_over_the_limit_is_left_to_control() -> None:
    """A CLI adds one zero byte to a last chunk of a certain size (contract: clients 3)."""
    world = World(source_max_bytes=1_000)
    answer = await send(world, form(part("activate", b"1"), part("code", b"x" * 1_000 + b"\0", "c.gz")))
    assert answer.status_code == 202
    assert world.deployments.calls[1][2]["part"].size_bytes == 1_001


async def test_a_request_that_announces_too_much_is_refused_before_it_is_read() -> None:
    world = World(source_max_bytes=1_000)
    answer = await send(world, in_pieces(b"x" * 10, 10), {"content-length": "100000000"})
    assert (answer.status_code, answer.json()["type"]) == (400, "deployment_invalid_file_size")


async def test_no_limit_is_no_limit() -> None:
    world = World(source_max_bytes=0)
    assert (await send(world, form(*PYTHON))).status_code == 202


async def test_a_form_field_is_bounded(world: World) -> None:
    answer = await send(world, form(part("commands", b"x" * (FIELD_MAX_BYTES + 1)), *PYTHON))
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert "commands" in answer.json()["message"]
    assert str(FIELD_MAX_BYTES) in answer.json()["message"]


async def test_the_number_of_parts_is_bounded(world: World) -> None:
    answer = await send(world, form(*(part("x", b"") for _ in range(200))))
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")


async def test_uploads_at_one_time_are_bounded_and_come_free_again() -> None:
    world = World(uploads_at_once=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        entered.set()
        await leave.wait()
        yield form(*PYTHON)

    first = asyncio.create_task(send(world, slow()))
    await entered.wait()
    refused = await send(world, form(*PYTHON))
    leave.set()
    assert (refused.status_code, refused.json()["type"]) == (429, "general_rate_limit_exceeded")
    assert "uploads_at_once=1" in refused.json()["message"]
    assert (await first).status_code == 202
    assert (await send(world, form(*PYTHON))).status_code == 202


async def test_a_guest_cannot_make_us_read_a_body(world: World) -> None:
    async with world.client({"x-appwrite-project": "p1"}) as client:
        answer = await client.post(DEPLOYMENTS, content=form(*PYTHON), headers=CONTENT_TYPE)
    assert answer.json()["type"] == "general_unauthorized_scope"
    assert world.deployments.calls == []


@pytest.mark.parametrize(("said", "use_cache"), [({}, True), ({"x-hearth-build-cache": "Off"}, False)])
async def test_a_header_asks_for_a_build_without_the_cache(world: World, said: dict[str, str], use_cache: bool) -> None:
    await send(world, form(*NODE), said)
    async with world.client() as client:
        await client.post(DEPLOYMENTS + "/duplicate", json={"deploymentId": "d1"}, headers=said)
    calls = {name: arguments["use_cache"] for name, _, arguments in world.deployments.calls if "use_cache" in arguments}
    assert calls == {"upload": use_cache, "duplicate": use_cache}


async def test_another_value_of_that_header_is_refused(world: World) -> None:
    answer = await send(world, form(*NODE), {"x-hearth-build-cache": "maybe"})
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")

"""Downloads, whole and in ranges (contract: functions-api 5.12)."""

from collections.abc import AsyncIterator

import pytest

from hearth.api.downloads import PIECE_BYTES, parse_range
from hearth.control.views import Download
from hearth.model.refusals import Refusal
from tests.api.support import World

pytestmark = pytest.mark.anyio

DOWNLOAD = "/v1/functions/f1/deployments/d1/download"
CONTENT = bytes(range(256)) * 8


def source(content: bytes = CONTENT, step: int = 100) -> Download:
    async def read(start: int, length: int) -> AsyncIterator[bytes]:
        for at in range(start, start + length, step):
            yield content[at : min(at + step, start + length)]

    return Download(len(content), "d1-source.tar.gz", "application/gzip", read)


async def test_the_whole_file_streams_with_its_name_and_type(world: World) -> None:
    world.deployments.results["download"] = source()
    async with world.client() as client:
        answer = await client.get(DOWNLOAD)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"] == 'attachment; filename="d1-source.tar.gz"'
    assert answer.headers["cache-control"] == "private, max-age=3888000"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert world.deployments.calls[0][2] == {"function_id": "f1", "deployment_id": "d1", "kind": "source"}


async def test_the_output_is_asked_for_by_type_and_other_types_are_refused(world: World) -> None:
    world.deployments.results["download"] = source()
    async with world.client() as client:
        await client.get(DOWNLOAD + "?type=output")
        refused = await client.get(DOWNLOAD + "?type=logs")
        await client.get("/v1/functions/f1/deployments/d1/build/download")
    assert [call[2]["kind"] for call in world.deployments.calls] == ["output", "source"]
    assert refused.json()["message"].startswith("Invalid `type` param: ")


async def test_a_range_is_answered_206(world: World) -> None:
    world.deployments.results["download"] = source()
    async with world.client() as client:
        answer = await client.get(DOWNLOAD, headers={"range": "bytes=10-1033"})
    assert (answer.status_code, answer.content) == (206, CONTENT[10:1034])
    assert answer.headers["content-range"] == f"bytes 10-1033/{len(CONTENT)}"
    assert (answer.headers["accept-ranges"], answer.headers["content-length"]) == ("bytes", "1024")


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("bytes=0-1", 2, (0, 1)),
        ("bytes=0-", 5, (0, 4)),
        ("bytes=4-", 5, (4, 4)),
        ("bytes=1-", 50_000_000, (1, PIECE_BYTES)),
    ],
)
def test_an_open_range_ends_at_one_piece_or_the_end(text: str, size: int, expected: tuple[int, int]) -> None:
    assert parse_range(text, size) == expected


@pytest.mark.parametrize(
    "text",
    ["items=0-1", "bytes=1-1", "bytes=2-1", "bytes=0-10", "bytes=-5", "bytes=0-1,3-4", "bytes=10-", "0-1", "bytes=a-b"],
)
async def test_a_range_that_cannot_be_served_is_416(world: World, text: str) -> None:
    world.deployments.results["download"] = source(CONTENT[:10])
    async with world.client() as client:
        answer = await client.get(DOWNLOAD, headers={"range": text})
    assert (answer.status_code, answer.json()["type"]) == (416, "storage_invalid_range")


async def test_only_keys_and_admins_may_download(world: World) -> None:
    """The route itself is public; a token would be the other way in."""
    async with world.client({"x-appwrite-project": "p1"}) as client:
        plain = await client.get(DOWNLOAD)
        token = await client.get(DOWNLOAD + "?token=forged")
    assert (plain.status_code, plain.json()["type"]) == (401, "user_unauthorized")
    assert (token.status_code, token.json()["type"]) == (401, "user_unauthorized")
    assert world.deployments.calls == []


async def test_head_gives_the_length_without_reading_the_file(world: World) -> None:
    async def read(start: int, length: int) -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    world.deployments.results["download"] = Download(77, "d1-source.tar.gz", "application/gzip", read)
    async with world.client() as client:
        answer = await client.head(DOWNLOAD)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "77", b"")


async def test_a_missing_file_is_refused(world: World) -> None:
    world.deployments.results["download"] = Refusal("deployment_not_found")
    async with world.client() as client:
        answer = await client.get(DOWNLOAD)
    assert (answer.status_code, answer.json()["type"]) == (404, "deployment_not_found")

"""An upload whose third chunk fails, in any way, goes on with that chunk: nothing that had arrived is lost.

Contract: functions-api 8. A real server, real connections, and a real function that reads what arrived.
"""

import hashlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.api import built, create_function, execute, ok
from tests.support.archives import DIGESTS, archive, incompressible
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

CHUNK_BYTES = 5 * 1024 * 1024
PAYLOAD = incompressible(18_000_000, seed=3)
CODE = archive({"main.py": DIGESTS["python"], "payload.bin": PAYLOAD})


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in chunks that has begun."""

    server: Server
    client: httpx.Client
    function_id: str
    deployment_id: str

    def send(self, number: int, code: bytes | None = None, **fields: str) -> httpx.Response:
        """Send the chunk with this number, from 1; `code` stands in for its bytes, `fields` for those of the form."""
        return self.client.send(self.request(number, code, **fields))

    def request(self, number: int, code: bytes | None = None, **fields: str) -> httpx.Request:
        start = (number - 1) * CHUNK_BYTES
        end = min(start + CHUNK_BYTES, len(CODE))
        headers = {"content-range": f"bytes {start}-{end - 1}/{len(CODE)}"}
        if self.deployment_id:
            headers["x-appwrite-id"] = self.deployment_id
        return self.client.build_request(
            "POST",
            f"/functions/{self.function_id}/deployments",
            data={"activate": "true", **fields},
            files={"code": ("code.tar.gz", CODE[start:end] if code is None else code, "application/gzip")},
            headers=headers,
        )

    def deployment(self) -> dict[str, Any]:
        return ok(self.client.get(f"/functions/{self.function_id}/deployments/{self.deployment_id}"))


def a_connection_that_breaks(upload: Upload) -> None:
    """The client is gone in the middle of the chunk."""
    request = upload.request(3)
    head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n".encode()
    head += b"".join(b"%s: %s\r\n" % pair for pair in request.headers.raw) + b"\r\n"
    with socket.create_connection(("127.0.0.1", upload.server.port)) as connection:
        connection.sendall(head + request.read()[: CHUNK_BYTES // 2])


def a_chunk_that_is_too_short(upload: Upload) -> None:
    """Less than its range announces."""
    answer = upload.send(3, b"short")
    assert (answer.status_code, answer.json()["type"]) == (400, "storage_invalid_content_range")
    assert f"{CHUNK_BYTES} bytes" in answer.json()["message"]


def a_field_over_its_limit(upload: Upload) -> None:
    """Refused for a parameter that has nothing to do with the chunk."""
    answer = upload.send(3, commands="x" * 8_193)
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert "8192" in answer.json()["message"]


def a_chunk_without_its_file(upload: Upload) -> None:
    answer = upload.send(3, b"")
    assert (answer.status_code, answer.json()["type"]) == (400, "storage_file_empty")


def a_killed_server(upload: Upload) -> None:
    """The server dies while it receives the chunk, and is started again."""
    a_connection_that_breaks(upload)
    upload.server.kill()
    upload.server.start()


FAILURES: list[Callable[[Upload], None]] = [
    a_connection_that_breaks,
    a_chunk_that_is_too_short,
    a_field_over_its_limit,
    a_chunk_without_its_file,
    a_killed_server,
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.mark.parametrize("fail", FAILURES, ids=lambda fail: fail.__name__)
def test_an_upload_goes_on_with_the_chunk_that_failed(server: Server, fail: Callable[[Upload], None]) -> None:
    id = fail.__name__.replace("_", "-")[:36]
    with server.client() as client:
        create_function(client, id, runtime_of("python"), entrypoint="main.py")
        begun = ok(Upload(server, client, id, "").send(1))
        upload = Upload(server, client, id, begun["$id"])
        assert ok(upload.send(2))["chunksUploaded"] == 2
        fail(upload)
        wait_for(lambda: upload.deployment()["status"] == "waiting", 5, "the upload to be waiting still")
        assert upload.deployment()["chunksUploaded"] == 2
        assert upload.deployment()["chunksTotal"] == 4
        assert ok(upload.send(4))["chunksUploaded"] == 3
        done = ok(upload.send(3))
        assert (done["$id"], done["chunksUploaded"]) == (upload.deployment_id, 4)
        ready = built(client, id, upload.deployment_id)
        assert ready["status"] == "ready", ready["buildLogs"]
        assert ready["sourceSize"] == len(CODE)
        assert execute(client, id)["responseBody"] == hashlib.sha256(PAYLOAD).hexdigest()
        assert ok(client.get(f"/functions/{id}/deployments"))["total"] == 1
        assert client.delete(f"/functions/{id}").status_code == 204

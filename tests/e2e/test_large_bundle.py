"""A bundle of 40 MB: packed by Zstandard, unpacked before it is needed, and started cold as fast as a small one."""

import shutil
import time
from collections.abc import Iterator

import httpx
import pytest

from hearth.runtimes.shims import zstd
from tests.support.api import create_function, deploy, execute, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

MODULES, MODULE_BYTES = 400, 100_000
MAIN = """
const words = [1, 2, 3].map((n) => require(`./lib/m${n}.js`).word);
module.exports = async ({ res }) => res.text(words.join(' '));
"""


def bundle() -> dict[str, str | bytes]:
    """Code that compresses as code does: an upload of it is small."""
    files: dict[str, str | bytes] = {"main.js": MAIN}
    for number in range(MODULES):
        line = f"// module {number}: what a bundler leaves of a library, line after line of it\n"
        files[f"lib/m{number}.js"] = f"exports.word = 'w{number}';\n" + line * (MODULE_BYTES // len(line))
    return files


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


def cold(client: httpx.Client) -> float:
    started = time.monotonic()
    assert execute(client, "large")["responseBody"] == "w1 w2 w3"
    return (time.monotonic() - started) * 1_000


def test_a_bundle_of_40_mb_is_packed_small_and_starts_cold_also_after_its_code_was_dropped(server: Server) -> None:
    with server.client() as client:
        create_function(client, "large", runtime_of("node"), entrypoint="main.js", timeout=30)
        done = deploy(client, "large", bundle(), commands=":")
        assert done["status"] == "ready", done["buildLogs"]
        print(f"cold start of 40 MB, unpacked before: {cold(client):.0f} ms")
        path = f"/functions/large/deployments/{done['$id']}/download"
        head = client.get(path, params={"type": "output"}, headers={"range": "bytes=0-99"})
        assert head.status_code == 206
        assert head.content.startswith(zstd.MAGIC if zstd.is_available() else b"\x1f\x8b")
        assert ok(client.get(f"/functions/large/deployments/{done['$id']}"))["buildSize"] < 4_000_000

    # As on a machine that never had it: unpacked by the first execution.
    assert server.stop() == 0
    shutil.rmtree(server.data_dir / "cache" / "code")
    server.start()
    with server.client() as client:
        print(f"cold start of 40 MB that has to be unpacked: {cold(client):.0f} ms")

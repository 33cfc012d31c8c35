"""Images with a server of their own, spoken to by HTTP (contract: runtime-contract 6): everything but Docker itself.

The stand-in for an image is a folder with such a server in a process's own view of the machine; that real images do
the same in real sandboxes is in tests/e2e/test_image_servers.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.model.running import Outcome
from hearth.runtimes.catalogue import InstalledPacks
from hearth.runtimes.images import ImagePacks, parse_images
from hearth.runtimes.packs import Pack
from tests.executor.conftest import LIMITS
from tests.support.executors import Bench, FakePacks, open_bench
from tests.support.process_driver import ProcessDriver

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SERVER = Path(__file__).parents[1] / "support" / "openruntimes"
INSIDE = "/usr/local/server"
OWN_NETWORK = ("/usr/bin/unshare", "--net", "/bin/sh", "-c", 'ip link set lo up && exec "$@"', "sh")
CODE = r"""
import json, os, sys, time

def main(context):
    action, request = context.req.headers["x-action"], context.req
    if action == "echo":
        names = ("OPEN_RUNTIMES_ENTRYPOINT", "GREETING")
        found = {
            "method": request.method, "path": request.path, "query": request.query_string,
            "headers": request.headers, "body": len(request.body_binary),
            "environment": {name: os.environ.get(name) for name in names},
        }
        return context.res.json(found, 201, {"x-own": "yes", "set-cookie": ["a=1", "b=2"], "x-open-runtimes-x": "no"})
    if action == "large":
        return context.res.binary(request.body_binary * 2)
    if action == "logs":
        context.log("one", 2)
        context.log("two")
        context.error("wrong")
        os.write(1, b"written to stdout\n")
        time.sleep(0.1)
        return context.res.text("logged")
    if action == "throw":
        context.log("before")
        raise ValueError("as asked")
    if action == "nothing":
        return None
    if action == "empty":
        return context.res.empty()
    if action == "exit":
        context.log("last words")
        os.write(2, b"on stderr\n")
        os._exit(7)
    if action == "signal":
        os.kill(os.getpid(), 11)
    if action == "break off":
        context.raw.connection.shutdown(2)
    if action == "break off late":
        context.raw.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n" + bytes(1000000))
        context.raw.wfile.flush()
        context.raw.connection.shutdown(2)
    if action == "sleep":
        context.log("started")
        time.sleep(60)
        context.log("ended")
    return context.res.text(str(os.getpid()))
"""


def image_pack(runtime: str = "python-3.11", takes: str = "many", left_out: str = "") -> Pack:
    """The pack that the table of images makes, with the stand-in's files instead of an image."""
    (row,) = parse_images(f"{runtime}=any#http")
    pack = ImagePacks((row,), InstalledPacks(())).get(runtime)
    assert pack is not None
    files = [path for path in (*SERVER.glob("helpers/*.sh"), SERVER / "server.py") if path.name != left_out]
    mounts = [(str(path), f"{INSIDE}/{'src' if path.suffix == '.py' else 'helpers'}/{path.name}") for path in files]
    shim = (*OWN_NETWORK, *pack.shim[:-1], takes)
    return replace(pack, id=f"{takes}-{left_out}", image="", mounts=(*pack.mounts, *mounts), shim=shim)


@pytest.fixture(name="images", scope="module")
async def image_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("images")
    packs = FakePacks(
        *(image_pack(takes=takes, left_out=name) for takes in ("many", "one") for name in ("", "server.py", "start.sh"))
    )
    limits = replace(LIMITS, load_timeout_s=20.0, start_timeout_s=20.0)
    async with open_bench(ProcessDriver(), folder, limits, packs) as opened:
        yield opened


def deployed(bench: Bench, takes: str = "many", files: dict[str, str | bytes] | None = None):
    return bench.deploy(f"{takes}-", "main.py", {"main.py": CODE, **(files or {})}, {"GREETING": "hello"})


async def test_a_request_and_its_answer_arrive_as_they_were(images: Bench) -> None:
    result = await images.run(
        deployed(images),
        "echo",
        b"b" * 700_000,
        method="PUT",
        path="/a/b?c=d",
        headers={"x-open-runtimes-secret": "mine", "x-umlaut": "ö"},
    )
    assert (result.outcome, result.status_code) == (Outcome.COMPLETED, 201), result.errors
    seen = json.loads(result.body)
    assert (seen["method"], seen["path"], seen["query"], seen["body"]) == ("PUT", "/a/b", "c=d", 700_000)
    assert seen["environment"] == {"OPEN_RUNTIMES_ENTRYPOINT": "main.py", "GREETING": "hello"}
    assert seen["headers"]["host"] == "localhost:3000"
    assert seen["headers"]["x-umlaut"].encode("latin-1").decode() == "ö"
    assert not [name for name in seen["headers"] if name.startswith("x-open-runtimes-")]
    assert sorted(result.headers) == [
        ("content-type", "application/json"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-own", "yes"),
    ]
    assert result.logs == "", "what the server said of its start is nobody's log"


async def test_bodies_of_every_size_come_back_whole(images: Bench) -> None:
    template = deployed(images)
    for size in (0, 1, 128 * 1024, 128 * 1024 + 1, 3_000_000):
        result = await images.run(template, "large", b"x" * size)
        assert (result.status_code, result.body) == (200, b"x" * 2 * size)
    result = await images.run(template, "large", b"x" * 11_000_000)
    assert (result.status_code, result.errors) == (
        500,
        "The response body is larger than the limit of 20971520 bytes.\n",
    )


async def test_logs_are_collected_and_can_be_switched_off(images: Bench) -> None:
    template = deployed(images)
    result = await images.run(template, "logs")
    assert result.errors == "wrong\n"
    assert [line for line in result.logs.splitlines() if "Native" not in line] in (
        ["one 2", "two", "written to stdout"],
        ["written to stdout", "one 2", "two"],
    )
    result = await images.run(template, "logs", logging=False)
    assert (result.body, result.logs, result.errors) == (b"logged", "", "")


@pytest.mark.parametrize(
    ("action", "outcome", "logs", "errors"),
    [
        ("throw", Outcome.COMPLETED, "before\n", "ValueError: as asked"),
        ("nothing", Outcome.COMPLETED, "", "Return statement missing."),
        ("exit", Outcome.CRASHED, "last words\n", "The function's process exited with code 7.\non stderr\n"),
        ("signal", Outcome.CRASHED, "", "The function's process was ended by SIGSEGV."),
        ("break off", Outcome.COMPLETED, "", "The image's server broke the connection off"),
        ("break off late", Outcome.CRASHED, "", "The image's server broke the connection off"),
    ],
)
async def test_every_failure_has_a_reason_of_its_own(
    images: Bench, action: str, outcome: Outcome, logs: str, errors: str
) -> None:
    template = deployed(images)
    result = await images.run(template, action)
    assert (result.outcome, result.status_code, result.body) == (outcome, 500, b"")
    assert errors in result.errors
    assert logs in result.logs
    assert (await images.run(template)).outcome is Outcome.COMPLETED, "the next one runs"


@pytest.mark.parametrize("takes", ["many", "one"])
async def test_our_clock_ends_what_is_late_and_what_was_logged_is_kept(images: Bench, takes: str) -> None:
    template = deployed(images, takes)
    before = (await images.run(template)).body
    result = await images.run(template, "sleep", timeout_s=0.5)
    assert (result.outcome, result.status_code) == (Outcome.TIMED_OUT, 500)
    assert (result.logs, result.errors) == ("started\n", "Execution timed out.\n")
    assert 0.4 < result.duration_s < 5
    after = await images.run(template)
    assert after.outcome is Outcome.COMPLETED and after.body != before, "another instance"


async def test_an_instance_takes_many_or_one_as_its_language_does(images: Bench) -> None:
    for takes, instances in (("many", 1), ("one", 2)):
        template = deployed(images, takes)
        await images.run(template)
        results = await asyncio.gather(*(images.run(template, "logs") for _ in range(2)))
        assert [result.body for result in results] == [b"logged"] * 2
        members = [m for m in images.executor._instances.pool.members if m.template is template]
        assert len(members) == instances


async def test_a_caller_that_leaves_does_not_disturb_the_others(images: Bench) -> None:
    template = deployed(images)
    before = (await images.run(template)).body
    leaving = asyncio.create_task(images.run(template, "sleep"))
    staying = asyncio.create_task(images.run(template, "logs"))
    await asyncio.sleep(0.05)
    leaving.cancel()
    assert (await staying).body == b"logged"
    assert (await images.run(template)).body not in (b"", before), "it was replaced, because a handler went on in it"


async def test_what_the_image_writes_at_its_start_is_not_the_code(images: Bench) -> None:
    """A venv in the code is unpacked into a folder of the instance's own; other code is linked."""
    template = deployed(images, files={"runtime-env/hook": "x"})
    assert (await images.run(template)).outcome is Outcome.COMPLETED
    code = next((folder for folder in images.files._folder.parent.rglob("runtime-env")), None)
    assert code is not None and [path.name for path in code.iterdir()] == ["hook"]


async def test_a_missing_entrypoint_is_the_servers_to_tell(images: Bench) -> None:
    result = await images.run(images.deploy("many-", "other.py", {"main.py": CODE}))
    assert (result.outcome, result.status_code) == (Outcome.COMPLETED, 503)
    assert result.errors == "Failed to load entrypoint, file other.py does not exist.\n"


@pytest.mark.parametrize(
    ("left_out", "errors"),
    [
        ("start.sh", "The image has no /usr/local/server/helpers/start.sh: it is none of Open Runtimes."),
        (
            "server.py",
            "The image's server ended with code 2 before it listened on port 3000.\nRuntime started.\npython3:",
        ),
    ],
)
async def test_a_server_that_does_not_come_up_says_why(images: Bench, left_out: str, errors: str) -> None:
    result = await images.run(images.deploy(f"many-{left_out}", "main.py", {"main.py": CODE}))
    assert (result.outcome, result.status_code) == (Outcome.LOAD_FAILED, 503)
    assert errors in result.errors

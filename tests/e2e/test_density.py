"""Many functions on one server, and a function that asks the server it runs on: nothing fails, and bounds hold."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from itertools import cycle

import httpx
import pytest

from tests.support.api import built, create_function, deploy, ok, upload
from tests.support.archives import archive
from tests.support.leftovers import footprint
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

FUNCTIONS = 40
INSTANCES = 8
STEMS = 2
AT_ONCE = 32
CALLS_EACH = 4

CODE = {
    "node": ("main.js", "module.exports = ({ req, res }) => res.text('node ' + process.env.NUMBER);\n"),
    "python": ("main.py", "import os\ndef main(c):\n    return c.res.text('python ' + os.environ['NUMBER'])\n"),
}
OWN_API = """const http = require('http');
const agent = new http.Agent({ keepAlive: true });
module.exports = ({ req, res }) => new Promise((resolve, reject) => {
  const headers = { 'x-appwrite-project': process.env.APPWRITE_FUNCTION_PROJECT_ID,
                    'x-appwrite-key': req.headers['x-appwrite-key'] };
  const url = `${process.env.APPWRITE_FUNCTION_API_ENDPOINT}/functions/${process.env.APPWRITE_FUNCTION_ID}`;
  http.get(url, { agent, headers }, (answer) => {
    const parts = [];
    answer.on('data', (part) => parts.push(part));
    answer.on('end', () => resolve(res.json({ status: answer.statusCode, id: JSON.parse(Buffer.concat(parts)).$id })));
  }).on('error', reject);
});
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with room for fewer instances than there are functions."""
    settings = {
        "HEARTH_MAX_INSTANCES": str(INSTANCES),
        "HEARTH_STEMS_PER_RUNTIME": "1",
        "HEARTH_STEMS_MAX": str(STEMS),
    }
    with running_server(settings) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def answers(server: Server, id: str) -> tuple[str, int, str]:
    """Run a function once on a connection of its own: status, status code and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        headers = {**server.headers, "content-type": "application/json"}
        connection.request("POST", f"/v1/functions/{id}/executions", b"{}", headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 201, document
    return document["status"], document["responseStatusCode"], document["responseBody"] or document["errors"]


def in_threads(works: list[Callable[[], None]]) -> None:
    """Do all at once. Raises the first failure."""
    problems: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def shims(server: Server) -> int:
    """How many instances and stem cells there are."""
    commands = [process.command for process in footprint(server.pid).processes]
    return sum("/shims/" in command for command in commands)


def test_more_functions_than_fit_each_run_once_and_idle_instances_make_room(
    server: Server, client: httpx.Client
) -> None:
    begun = []
    for number, (family, (entrypoint, source)) in zip(range(FUNCTIONS), cycle(CODE.items()), strict=False):
        id = f"{family}-{number}"
        create_function(client, id, runtime_of(family), entrypoint=entrypoint)
        variable = {"variableId": f"v{number}", "key": "NUMBER", "value": str(number)}
        ok(client.post(f"/functions/{id}/variables", json=variable))
        begun.append((id, ok(upload(client, id, archive({entrypoint: source})))["$id"]))
    for id, deployment in begun:
        assert built(client, id, deployment)["status"] == "ready"
    most = 0

    def call(ids: list[str]) -> None:
        nonlocal most
        for id in ids:
            assert answers(server, id) == ("completed", 200, id.replace("-", " "))
            most = max(most, shims(server))

    ids = [id for id, _ in begun]
    in_threads([lambda share=ids[at::4]: call(share) for at in range(4)])
    # Those that end are still there for a moment.
    assert INSTANCES / 2 < most <= 2 * (INSTANCES + STEMS)


def test_a_function_asks_its_own_server_from_many_executions_at_once(server: Server, client: httpx.Client) -> None:
    create_function(client, "asks", runtime_of("node"), entrypoint="main.js", scopes=["functions.read"])
    assert deploy(client, "asks", {"main.js": OWN_API})["status"] == "ready"

    def call() -> None:
        for _ in range(CALLS_EACH):
            status, code, body = answers(server, "asks")
            assert (status, code, json.loads(body)) == ("completed", 200, {"status": 200, "id": "asks"}), body

    in_threads([call] * AT_ONCE)


def test_a_read_finds_what_was_written_just_before(server: Server, client: httpx.Client) -> None:
    """Reads that many ask at once are answered from memory; never after a write."""
    create_function(client, "renamed", runtime_of("node"), entrypoint="main.js")
    for number in range(20):
        ok(client.put("/functions/renamed", json={"name": f"name {number}", "runtime": runtime_of("node")}))
        assert ok(client.get("/functions/renamed"))["name"] == f"name {number}"
        found = ok(client.get("/functions", params={"search": f"name {number}"}))
        assert [function["name"] for function in found["functions"]] == [f"name {number}"]

"""`hearth backup` of a server under load, and `hearth restore` of it on the other engine and beside other projects."""

import contextlib
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.postgres import running_postgres
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, Server, running_server, server_folder, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

PASSPHRASE = "correct horse battery"
CODE = "import os\n\n\ndef main(context):\n    return context.res.text(os.environ.get('SECRET', 'none'))\n"
#: Answers that hold everything there is of a project; of a function they are asked below its path.
OF_PROJECT = (
    *("/functions", "/project/variables", "/proxy/rules", "/webhooks", "/project/platforms", "/project/keys"),
    *("/users", "/teams"),
)
#: Executions whose request and response are stored.
STORED = '{"method":"equal","attribute":"requestPath","values":["/stored"]}'
OF_FUNCTION = ("", "/deployments", "/variables", "/settings", "/deadletters")


def hearth(*arguments: str, settings: dict[str, str], passphrase: str = PASSPHRASE) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    return subprocess.run(
        [str(HEARTH), *arguments],
        env=environment | {"HEARTH_BACKUP_PASSPHRASE": passphrase} | settings,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def pages(client: httpx.Client, path: str, key: str) -> list[dict[str, Any]]:
    """Every item of a list."""
    found: list[dict[str, Any]] = []
    while True:
        queries = ['{"method":"limit","values":[100]}']
        if found:
            queries.append('{"method":"cursorAfter","values":["%s"]}' % found[-1]["$id"])  # noqa: UP031 - JSON
        page: list[dict[str, Any]] = ok(client.get(path, params={"queries[]": queries}))[key]
        found += page
        if len(page) < 100:
            return found


def everything(client: httpx.Client) -> dict[str, Any]:
    """What the API says of a project, executions apart, and the digests of the files it gives out."""
    said: dict[str, Any] = {path: ok(client.get(path)) for path in OF_PROJECT}
    for function in said["/functions"]["functions"]:
        base = f"/functions/{function['$id']}"
        said |= {base + path: ok(client.get(base + path)) for path in OF_FUNCTION}
        for execution in ok(client.get(f"{base}/executions", params={"queries[]": STORED}))["executions"]:
            paths = [f"{base}/executions/{execution['$id']}/{part}" for part in ("request", "response")]
            said |= {path: ok(client.get(path)) for path in paths}
        for deployment in said[f"{base}/deployments"]["deployments"]:
            for kind in ("source", "output"):
                path = f"{base}/deployments/{deployment['$id']}/download"
                answer = client.get(path, params={"type": kind})
                said[f"{path} {kind}"] = (answer.status_code, hashlib.sha256(answer.content).hexdigest())
    for key in said["/project/keys"]["keys"]:
        key.pop("accessedAt")  # moves with each request of ours
    return said


@contextlib.contextmanager
def load(server: Server) -> Iterator[threading.Event]:
    """Executions, one after the other, until the end; the event is set when some of them are recorded."""
    stop, some = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with server.client() as client:
                for count in range(5_000):
                    if stop.is_set():
                        return
                    execute(client, "f", body=str(count))
                    if count == 20:
                        some.set()
        except BaseException as error:
            failures.append(error)
        finally:
            some.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield some
    finally:
        stop.set()
        thread.join(60)
    assert not failures, failures


def fill(client: httpx.Client) -> None:
    create_function(client, "f", runtime_of("python"), entrypoint="main.py", execute=["any"], schedule="0 0 1 1 *")
    ok(
        client.post(
            "/functions/f/variables", json={"variableId": "v", "key": "SECRET", "value": "kept", "secret": True}
        )
    )
    ok(client.post("/project/variables", json={"variableId": "w", "key": "SHARED", "value": "all", "secret": False}))
    ok(client.post("/users", json={"userId": "u", "email": "u@example.com", "name": "U"}))
    ok(client.post("/teams", json={"teamId": "t", "name": "T"}))
    assert deploy(client, "f", {"main.py": CODE})["status"] == "ready"
    assert deploy(client, "f", {"main.py": CODE}, activate="false")["status"] == "ready"
    create_function(client, "g", runtime_of("python"), entrypoint="main.py")
    ok(client.patch("/functions/f/settings", json={"storeBodies": True}))
    made = execute(client, "f", path="/stored", body="x", **{"async": True})
    path = f"/functions/f/executions/{made['$id']}"
    wait_for(lambda: ok(client.get(path))["responseBody"] == "kept", 60, "the stored result")
    ok(client.patch("/functions/f/settings", json={"storeBodies": False}))


@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_backup_under_load_restores_to_the_same_answers(source: str, target: str) -> None:
    with running_postgres() as cluster, server_folder() as folder:
        addresses = {"sqlite": "", "postgresql": f"{cluster}/postgres"}
        archive = folder / "all.backup"
        with running_server({"HEARTH_DATABASE_URL": addresses[source]}) as server, server.client() as client:
            fill(client)
            before = pages(client, "/functions/f/executions", "executions")
            said = everything(client)
            own = {"HEARTH_DATABASE_URL": addresses[source], "HEARTH_DATA_DIR": str(server.data_dir)}
            with load(server) as some:
                assert some.wait(60)
                known = pages(client, "/functions/f/executions", "executions")
                made = hearth("backup", str(archive), settings=own)
            assert made.returncode == 0, made.stderr
            after = {item["$id"]: item for item in pages(client, "/functions/f/executions", "executions")}
            assert [path.name for path in server.data_dir.glob("backup-*")] == []
        assert archive.stat().st_mode & 0o777 == 0o600
        checked = hearth("restore", str(archive), "--check", settings={})
        assert (checked.returncode, "every digest is right" in checked.stdout) == (0, True), checked.stderr
        new = Server(folder / "new", {"HEARTH_DATABASE_URL": addresses[target]})
        new.data_dir.parent.mkdir()
        here = {"HEARTH_DATABASE_URL": addresses[target], "HEARTH_DATA_DIR": str(new.data_dir)}
        restored = hearth("restore", str(archive), settings=here)
        assert restored.returncode == 0, restored.stderr
        again = hearth("restore", str(archive), settings=here)
        assert (again.returncode, "holds an installation already" in again.stderr) == (78, True)
        new.start()
        try:
            with new.client() as client:
                assert everything(client) == said
                found = {item["$id"]: item for item in pages(client, "/functions/f/executions", "executions")}
                assert found.items() <= after.items(), "an execution is as it was"
                assert {item["$id"] for item in [*before, *known]} <= set(found), "none is lost"
                assert execute(client, "f")["responseBody"] == "kept", "code and sealed values are there"
        finally:
            assert new.stop() == 0
        new.assert_nothing_left()


def test_one_project_is_restored_beside_the_others_of_an_installation_with_another_key() -> None:
    with server_folder() as folder:
        archive = folder / "default.backup"
        with running_server() as server, server.client() as client:
            fill(client)
            execute(client, "f")
            ran = pages(client, "/functions/f/executions", "executions")
            said = everything(client)
            made = hearth(
                "backup", str(archive), "--project", "default", settings={"HEARTH_DATA_DIR": str(server.data_dir)}
            )
            assert made.returncode == 0, made.stderr
            key = server.headers
        with running_server() as other:
            with other.client() as client:
                create_function(client, "mine", runtime_of("python"))
            here = {"HEARTH_DATA_DIR": str(other.data_dir)}
            running = hearth("restore", str(archive), settings=here)
            assert (running.returncode, "Stop it" in running.stderr) == (78, True), "not while the server runs"
            other.stop()
            refused = hearth("restore", str(archive), settings=here)
            assert (refused.returncode, "--replace" in refused.stderr) == (78, True)
            done = hearth("restore", str(archive), "--replace", settings=here)
            assert done.returncode == 0, done.stderr
            other.start()
            with httpx.Client(base_url=other.endpoint, headers=key, timeout=60, trust_env=False) as client:
                now = everything(client)
                assert now.pop("/functions")["total"] == said.pop("/functions")["total"], "what was here has gone"
                assert _numbered_anew(now) == _numbered_anew(said)
                again = pages(client, "/functions/f/executions", "executions")
                assert _numbered_anew(again) == _numbered_anew(ran)
                assert execute(client, "f")["responseBody"] == "kept", "values are sealed with the key of this place"
                wait_for(lambda: ok(client.get("/functions"))["total"] == 2, 10, "both functions")


def _numbered_anew(said: Any) -> Any:
    """What was said without the numbers of rows, which are of one installation."""
    if isinstance(said, dict):
        return {name: _numbered_anew(value) for name, value in said.items() if name != "$sequence"}
    return [_numbered_anew(item) for item in said] if isinstance(said, list) else said

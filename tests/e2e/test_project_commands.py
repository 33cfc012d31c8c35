"""The commands of a project against a real server: push, executions, logs, rollback, pull, settings, dead letters."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.cli.client.uploading import CHUNK_BYTES
from tests.support.api import execute, ok
from tests.support.archives import DIGESTS, incompressible
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

RUN_WAIT_S = 120.0
CODE = """
module.exports = async ({{ req, res, log, error }}) => {{
  log('asked for ' + req.path);
  if (req.path === '/fail') throw new Error('as asked');
  return res.text('{answer} ' + (process.env.GREETING ?? 'none'));
}};
"""

SLOW = """
module.exports = async ({ res, log }) => {
  log('begun');
  await new Promise((done) => setTimeout(done, 3000));
  log('over');
  return res.empty();
};
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


class Folder:
    """A project folder, and the command in it."""

    def __init__(self, path: Path, server: Server) -> None:
        self.path, self.server = path, server
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
        self.environment |= {
            "HEARTH_ENDPOINT": server.endpoint,
            "HEARTH_KEY": server.credentials["apiKey"],
            "XDG_STATE_HOME": str(path.parent / "state"),
        }

    @property
    def config(self) -> Path:
        return self.path / "appwrite.config.json"

    def configure(self, *functions: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        project_id = self.server.credentials["projectId"]
        self.config.write_text(json.dumps({"projectId": project_id, "functions": list(functions)}))

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(HEARTH), *arguments],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        with self.popen(*arguments) as process:
            try:
                out, err = process.communicate(timeout=RUN_WAIT_S)
            finally:
                process.kill()
        assert process.returncode == expect, out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run_outside(self, *arguments: str) -> None:
        """A command for which the folder need not be there yet."""
        subprocess.run([str(HEARTH), *arguments], check=True, timeout=RUN_WAIT_S, env=self.environment)

    def json(self, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Folder:
    return Folder(tmp_path / "project", server)


def entry(id: str, **changes: Any) -> dict[str, Any]:
    return {
        "$id": id,
        "name": f"The {id}",
        "runtime": runtime_of("node"),
        "execute": ["any"],
        "events": [],
        "scopes": ["users.read"],
        "schedule": "",
        "timeout": 20,
        "enabled": True,
        "logging": True,
        "entrypoint": "main.js",
        "commands": "",
        "ignore": ["node_modules", ".env"],
        "path": f"functions/{id}",
        **changes,
    }


def test_from_the_first_push_to_a_rollback(server: Server, folder: Folder) -> None:
    """Push, run, logs, executions, push again, back again, and all of it pulled into another folder."""
    id = "command-line"
    folder.run_outside("init", str(folder.path), "--runtime", runtime_of("node"), "--name", "Command line")
    document = json.loads(folder.config.read_text())
    (made,) = document["functions"]
    made |= {"commands": "echo built by hand", "scopes": ["users.read"], "timeout": 20}
    folder.config.write_text(json.dumps(document))
    folder.write(f"functions/{id}/main.js", CODE.format(answer="first"))
    folder.write(f"functions/{id}/.env", "GREETING='good evening'\n")
    folder.write(f"functions/{id}/node_modules/x.js", "ignored")
    done = folder.run("push", "--with-variables")
    assert "built by hand" in done.stdout, "the log of the build"
    assert "active" in done.stderr

    with server.client() as client:
        first = ok(client.get(f"/functions/{id}"))["deploymentId"]
        assert execute(client, id, path="/one")["responseBody"] == "first good evening"
        assert execute(client, id, path="/fail")["status"] == "failed"

        shown = folder.run("logs", id).stdout
        assert shown.index("asked for /one") < shown.index("asked for /fail") < shown.index("as asked")
        listed = folder.json("executions", id)["executions"]
        assert [it["requestPath"] for it in listed] == ["/fail", "/one"]
        assert [it["requestPath"] for it in folder.json("executions", id, "--status", "failed")["executions"]] == [
            "/fail"
        ]
        table = folder.run("executions", id).stdout
        assert "/one" in table
        row = next(line for line in table.splitlines() if "/one" in line)
        assert row.rstrip().endswith(" MB"), "its memory"
        assert " cold " in row or " warm " in row
        assert "asked for /one" in folder.run("logs", listed[1]["$id"]).stdout, "found by the execution alone"

        folder.write(f"functions/{id}/main.js", CODE.format(answer="second"))
        (pushed,) = folder.json("push", id)
        assert (pushed["status"], pushed["created"], pushed["error"]) == ("ready", False, "")
        assert execute(client, id)["responseBody"] == "second good evening"
        assert folder.json("rollback", id) == {
            "functionId": id,
            "deploymentId": first,
            "before": pushed["deploymentId"],
        }
        assert execute(client, id)["responseBody"] == "first good evening"
        folder.run("rollback", id, expect=1)
        folder.run("rollback", id, pushed["deploymentId"])

        folder.write(f"functions/{id}/main.js", CODE.format(answer="third"))
        (quiet,) = folder.json("push", id, "--no-activate")
        assert ok(client.get(f"/functions/{id}"))["deploymentId"] == pushed["deploymentId"] != quiet["deploymentId"]

    other = Folder(folder.path.parent / "other", server)
    other.path.mkdir()
    other.environment["HEARTH_PROJECT"] = server.credentials["projectId"]
    other.run("pull", id, "--with-variables")
    (pulled,) = json.loads(other.config.read_text())["functions"]
    assert pulled == {name: value for name, value in made.items() if name != "ignore"}
    code = other.path / pulled["path"]
    assert sorted(path.name for path in code.iterdir()) == [".env", "README.md", "main.js", "package.json"]
    assert (code / "main.js").read_text() == CODE.format(answer="second")
    assert (code / ".env").read_text() == "GREETING='good evening'\n"
    (code / "main.js").write_text("mine")
    assert "--force" in other.run("pull", id, expect=1).stderr
    assert (code / "main.js").read_text() == "mine"
    other.run("pull", id, "--force")
    assert (code / "main.js").read_text() == CODE.format(answer="second")


def test_a_failing_build_ends_the_push_with_its_reason(folder: Folder) -> None:
    folder.configure(entry("cannot-build", commands="echo looking; echo no such thing >&2; exit 3"))
    folder.write("functions/cannot-build/main.js", CODE.format(answer="never"))
    done = folder.run("push", expect=1)
    assert "no such thing" in done.stdout
    assert "the build failed" in done.stderr
    (result,) = folder.json("push", expect=1)
    assert result["status"] == "failed"


def test_an_interrupted_push_goes_on_where_it_was(server: Server, folder: Folder) -> None:
    """Code of several chunks; the first attempt is ended half-way, the second sends only what is missing."""
    id, payload = "large-code", incompressible(4 * CHUNK_BYTES + 1_000, seed=5)
    folder.configure(entry(id))
    folder.write(f"functions/{id}/main.js", DIGESTS["node"])
    folder.write(f"functions/{id}/payload.bin", payload)
    with Gatekeeper(server, passes=3) as gate:
        folder.environment["HEARTH_ENDPOINT"] = gate.endpoint
        process = folder.popen("push")
        assert gate.full.wait(RUN_WAIT_S)
        notes = folder.path.parent / "state" / "hearth" / "uploads"
        wait_for(
            lambda: any(len(json.loads(it.read_text())["arrived"]) == 3 for it in notes.glob("*.json")), 30, "notes"
        )
        process.kill()
        process.communicate(timeout=RUN_WAIT_S)
        gate.open()
        before = gate.chunks
        (pushed,) = folder.json("push")
        assert pushed["status"] == "ready"
        assert gate.chunks - before == 2, "of five"
    with server.client() as client:
        assert ok(client.get(f"/functions/{id}/deployments"))["total"] == 1
        assert execute(client, id)["responseBody"] == hashlib.sha256(payload).hexdigest()
    assert not list(notes.iterdir()), "what is finished is forgotten"


def test_logs_are_followed_until_the_end_of_an_execution(server: Server, folder: Folder) -> None:
    id = "followed"
    folder.configure(entry(id))
    folder.write(f"functions/{id}/main.js", SLOW)
    folder.run("push")
    with server.client() as client:
        execution = ok(client.post(f"/functions/{id}/executions", json={"async": True}))
        lines = [
            json.loads(line) for line in folder.run("logs", id, execution["$id"], "-f", "--json").stdout.splitlines()
        ]
    assert [it["line"] for it in lines if it["event"] == "log"] == ["begun", "over"]
    assert (lines[-1]["event"], lines[-1]["status"]) == ("end", "completed")


def test_settings_and_dead_letters(server: Server, folder: Folder) -> None:
    id = "with-settings"
    folder.configure(entry(id))
    folder.write(f"functions/{id}/main.js", CODE.format(answer="x"))
    folder.run("push")
    changed = folder.json("settings", id, "retryMaxAttempts=2", "retryBackoffS=1", "egressAllow=db.internal:5432")
    assert (changed["retryMaxAttempts"], changed["egressAllow"]) == (2, ["db.internal:5432"])
    assert "retryMaxAttempts" in folder.run("settings", id).stdout
    assert "retryMaxAttempts" in folder.run("settings", id, "retry=2", expect=2).stderr
    with server.client() as client:
        made = ok(client.post(f"/functions/{id}/executions", json={"async": True, "path": "/fail"}))
        path = f"/functions/{id}/deadletters"
        wait_for(lambda: ok(client.get(path))["total"] == 1, 60, "the dead letter")
        assert folder.json("deadletters", "list", id)["deadLetters"][0]["$id"] == made["$id"]
        assert "attemptsUsed" in folder.run("deadletters", "list", id).stdout
        assert folder.json("deadletters", "show", id, made["$id"])["requestPath"] == "/fail"
        again = folder.json("deadletters", "redrive", id, made["$id"])
        wait_for(lambda: ok(client.get(path))["total"] == 1, 60, "the dead letter of the second run")
        folder.run("deadletters", "purge", id, expect=2)
        folder.run("deadletters", "purge", id, again["$id"])
        assert ok(client.get(path))["total"] == 0


def test_what_is_missing_is_named(server: Server, folder: Folder) -> None:
    """No project file, no key, an unknown function, a wrong key, a server that is away: each with its exit code."""
    folder.path.mkdir()
    folder.environment["HEARTH_PROJECT"] = "default"
    assert "hearth init" in folder.run("push", expect=78).stderr
    folder.configure()
    assert "no functions" in folder.run("push", expect=78).stderr
    assert "function_not_found" in folder.run("executions", "nowhere", expect=1).stderr
    folder.environment["HEARTH_KEY"] = "wrong"
    assert "API key" in folder.run("executions", "nowhere", expect=1).stderr
    del folder.environment["HEARTH_KEY"]
    assert "--key" in folder.run("executions", "nowhere", expect=78).stderr
    folder.environment |= {"HEARTH_KEY": "any", "HEARTH_ENDPOINT": "http://127.0.0.1:9/v1"}
    assert "No answer" in folder.run("executions", "nowhere", expect=1).stderr


class Gatekeeper:
    """A proxy that lets so many chunks of code pass and holds the others until it is opened."""

    def __init__(self, server: Server, passes: int) -> None:
        self._server, self._passes = server, passes
        self.chunks = 0
        self.full = threading.Event()
        self._opened = threading.Event()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def open(self) -> None:
        self._opened.set()

    def __enter__(self) -> "Gatekeeper":
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Quiet."""

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if not gate.admits(self.headers.get("content-range")):
                    self.close_connection = True
                    return
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
                }
                url = f"{gate._server.endpoint.removesuffix('/v1')}{self.path}"
                answer = httpx.request(self.command, url, headers=headers, content=body, timeout=60, trust_env=False)
                self.send_response(answer.status_code)
                for name in ("content-type",):
                    self.send_header(name, answer.headers.get(name, "text/plain"))
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def admits(self, content_range: str | None) -> bool:
        """Whether a request may pass; a chunk too many waits, and is then let go without an answer."""
        if content_range is None:
            return True
        with self._lock:
            self.chunks += 1
            if self._opened.is_set() or self.chunks <= self._passes:
                return True
            self.full.set()
        self._opened.wait(RUN_WAIT_S)
        return False

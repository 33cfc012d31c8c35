"""A whole server with the probe deployed, one function that shows it is healthy, and canaries around it."""

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.sandbox import harness, report
from tests.sandbox.harness import processes_of
from tests.support.api import create_function, deploy, execute, ok
from tests.support.leftovers import footprint
from tests.support.runtimes import runtime_of
from tests.support.server import Server

FUNCTIONS = Path(__file__).with_name("functions")
PROBE_FILES: dict[str, str | bytes] = {
    "main.py": (FUNCTIONS / "main.py").read_text(),
    **{name: Path(__file__).with_name(name).read_text() for name in harness.PROBE_FILES},
}
HEALTHY = "def main(context):\n    return context.res.text('fine')\n"
PYTHON, NODE, OTHER = "probe", "probe-node", "other"
SMALL: Mapping[str, Any] = {"timeout": 15, "scopes": ["users.read"], "specification": "s-1vcpu-512mb"}


class Platform:
    """One running server as a tenant and as the host's owner see it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client()
        self.secret = f"secret-{secrets.token_hex(16)}"
        """Value of a secret variable of the function `other`."""
        create_function(self.client, OTHER, runtime_of("python"), entrypoint="main.py")
        variable = {"variableId": "unique()", "key": "HIDDEN", "value": self.secret, "secret": True}
        ok(self.client.post(f"/functions/{OTHER}/variables", json=variable))
        self.deploy(OTHER, {"main.py": HEALTHY})
        create_function(self.client, PYTHON, runtime_of("python"), entrypoint="main.py", **SMALL)
        self.deploy(PYTHON, PROBE_FILES)

    def deploy(self, id: str, files: Mapping[str, str | bytes], **fields: str) -> dict[str, Any]:
        """Deploy and activate; AssertionError unless the build is ready."""
        deployment = deploy(self.client, id, dict(files), **fields)
        assert deployment["status"] == "ready", deployment["buildLogs"]
        return deployment

    def with_node(self) -> None:
        """Deploy the probe for Node if that has not been done."""
        if self.client.get(f"/functions/{NODE}").status_code == 404:
            create_function(self.client, NODE, runtime_of("node"), entrypoint="main.js", **SMALL)
            self.deploy(NODE, {"main.js": (FUNCTIONS / "main.js").read_text()})

    def run(self, case: str, args: Mapping[str, Any] | None = None, function: str = PYTHON) -> dict[str, Any]:
        """Run one case of the probe: the execution."""
        body = json.dumps({"case": case, "args": dict(args or {})})
        execution = execute(
            self.client, function, body=body, method="POST", headers={"content-type": "application/json"}
        )
        text = execution["responseBody"] if execution["status"] == "completed" else execution["errors"]
        report.note(f"{case}: {execution['status']} {execution['responseStatusCode']} {text[:200]}")
        return execution

    def got(self, case: str, args: Mapping[str, Any] | None = None, function: str = PYTHON) -> Any:
        """Run one case that comes to its end: what the probe saw."""
        execution = self.run(case, args, function)
        assert execution["status"] == "completed", execution["errors"]
        return json.loads(execution["responseBody"])["got"]

    def assert_healthy(self) -> None:
        """The rule of every case: the next execution of another function succeeds."""
        execution = execute(self.client, OTHER)
        assert (execution["status"], execution["responseBody"]) == ("completed", "fine"), execution

    def resident_kb(self) -> int:
        """Memory of the API process."""
        return _rows_of(self.server.pid)["VmRSS"]

    def sandbox_processes(self) -> list[int]:
        """Live processes below the server that are not the server's own three."""
        found = footprint(self.server.pid).processes
        helpers = ("hearth.executor.sandbox.", "hearth serve", "/hearth ", "runc ")
        return [one.pid for one in found if one.is_alive() and not any(word in f"{one.command} " for word in helpers)]

    def uids(self) -> set[int]:
        """Host uids of the processes in sandboxes."""
        return {uid for pid in self.sandbox_processes() for uid in _uids_of(pid)}

    def processes_of_uids(self, uids: Sequence[int]) -> list[int]:
        return [pid for uid in uids for pid in processes_of(uid)]

    def close(self) -> None:
        self.client.close()


def _rows_of(pid: int) -> dict[str, int]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: int(value) for name, value in re.findall(r"(\w+):\s+(\d+) kB", text)}


def _uids_of(pid: int) -> list[int]:
    try:
        return [os.stat(f"/proc/{pid}").st_uid]
    except OSError:
        return []

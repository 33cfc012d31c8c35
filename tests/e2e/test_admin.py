"""`hearth admin`: retention tried out on a running server (operator interface)."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, Server, running_server, server_folder

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

#: The command, but a server that is not there is not waited for as long as one may take.
IMPATIENT = """
from hearth.cli import admin, entry
admin.PICKED_UP_WITHIN_S = 0.5
entry.main()
"""


def admin(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(HEARTH), "admin", *arguments, "--data-dir", str(data_dir)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)


def travel(server: Server, kind: str, id: str) -> None:
    moved = admin(
        server.data_dir,
        "time-travel",
        *("--project-id", "default", "--resource-type", kind, "--resource-id", id),
        *("--created-at", "2020-01-01T00:00:00Z"),
    )
    assert moved.returncode == 0, moved.stderr


def test_what_is_past_its_retention_goes_when_maintenance_is_asked_for() -> None:
    with running_server() as server, server.client() as client:
        create_function(client, "f", runtime_of("python"), entrypoint="main.py", deploymentRetention=30)
        code = {"main.py": "def main(context):\n    return context.res.text('x')\n"}
        old = deploy(client, "f", code)["$id"]
        active = deploy(client, "f", code)["$id"]
        gone, kept = execute(client, "f")["$id"], execute(client, "f")["$id"]
        travel(server, "deployments", old)
        travel(server, "deployments", active)
        travel(server, "executions", gone)
        assert ok(client.get(f"/functions/f/executions/{gone}"))["$createdAt"].startswith("2020-01-01")
        swept = admin(server.data_dir, "maintenance")
        assert swept.returncode == 0, swept.stderr
        deployments = ok(client.get("/functions/f/deployments"))["deployments"]
        executions = ok(client.get("/functions/f/executions"))["executions"]
        assert [item["$id"] for item in deployments] == [active]
        assert [item["$id"] for item in executions] == [kept]
        assert execute(client, "f")["responseBody"] == "x"


def test_wrong_use_and_a_missing_server_are_said_in_a_line() -> None:
    with server_folder() as folder:
        missing = admin(folder / "nothing", "maintenance")
        assert (missing.returncode, "no data folder" in missing.stderr) == (78, True)
    with running_server() as server:
        wrong = (
            "--project-id",
            "default",
            "--resource-type",
            "teams",
            "--resource-id",
            "x",
            "--created-at",
            "2020-01-01",
        )
        refused = admin(server.data_dir, "time-travel", *wrong)
        assert (refused.returncode, "--resource-type must be one of" in refused.stderr) == (2, True)
        unknown = [word if word != "teams" else "deployments" for word in wrong]
        absent = admin(server.data_dir, "time-travel", *unknown)
        assert (absent.returncode, "no such resource" in absent.stderr) == (1, True)
        server.stop()
        alone = subprocess.run(
            [sys.executable, "-c", IMPATIENT, "admin", "maintenance", "--data-dir", str(server.data_dir)],
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert (alone.returncode, "No server works" in alone.stderr) == (1, True)
        server.start()


def test_an_added_person_logs_in_to_the_console_and_sees_the_project() -> None:
    with running_server() as server:
        made = admin(server.data_dir, "create-user", "--email", "Second@example.org", "--role", "developer")
        assert made.returncode == 0, made.stderr
        password = made.stdout.split("password: ")[1].strip()
        again = admin(server.data_dir, "create-user", "--email", "second@example.org")
        assert (again.returncode, "logs in as second@example.org already" in again.stderr) == (1, True)
        short = admin(server.data_dir, "create-user", "--email", "third@example.org", "--role", "king")
        assert (short.returncode, "--role must be one of" in short.stderr) == (2, True)
        console = {"x-appwrite-project": "console"}
        with httpx.Client(base_url=server.endpoint) as browser:
            session = browser.post(
                "/account/sessions/email",
                json={"email": "second@example.org", "password": password},
                headers=console,
            )
            assert session.status_code == 201, session.text
            seen = browser.get("/projects", headers=console).json()
            assert [project["$id"] for project in seen["projects"]] == ["default"]

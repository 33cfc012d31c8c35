"""A Docker image with a server of its own as a runtime of a real server: built, called and ended (ADR 48)."""

import os

import pytest

from tests.support import docker
from tests.support.api import create_function, deploy, execute
from tests.support.runtimes import runtime_of
from tests.support.server import running_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="facility root: the driver docker needs root"),
    pytest.mark.skipif(bool(docker.why_not()), reason=f"facility docker: {docker.why_not()}"),
]

CODE = r"""
import os, time

def main(context):
    action = context.req.path
    context.log("asked for", action)
    if action == "/seen":
        here = "/usr/local/server/src/function"
        return context.res.json({
            "built": open(f"{here}/built").read(), "hook": open(f"{here}/runtime-env/hook").read(),
            "started": os.path.exists(f"{here}/runtime-env/written-at-start"), "image": os.environ["OF_THE_IMAGE"],
            "variable": os.environ["GREETING"], "name": context.req.headers["x-appwrite-trigger"],
        })
    if action == "/memory":
        held = []
        while True:
            held.append(bytes(1 << 20))
    if action == "/exit":
        os._exit(7)
    if action == "/sleep":
        time.sleep(60)
    if action == "/throw":
        raise ValueError("as asked")
    return context.res.text("done")
"""
#: What is asked for -> what the record's errors say.
ENDS = {
    "/memory": "The function used more memory than its limit of 512 MB.",
    "/exit": "The function's process exited with code 7.",
    "/sleep": "Execution timed out.",
    "/throw": "ValueError: as asked",
}


def test_an_image_that_speaks_http_builds_and_runs_functions() -> None:
    python = runtime_of("python")
    try:
        with docker.daemon() as made:
            docker.load_image(made, docker.SERVER_IMAGE)
            settings = {
                "HEARTH_SANDBOX_DRIVER": "docker",
                "HEARTH_DOCKER_SOCKET": made.socket,
                "HEARTH_DOCKER_IMAGES": f"{python}={docker.SERVER_IMAGE}#http",
            }
            with running_server(settings) as server, server.client() as client:
                commands = 'echo "$GREETING" >built'
                sizes = {"runtimeSpecification": "s-1vcpu-512mb", "timeout": 5}
                create_function(client, "images", python, entrypoint="main.py", commands=commands, **sizes)
                client.post("/functions/images/variables", json={"key": "GREETING", "value": "hello"})
                deployment = deploy(client, "images", {"main.py": CODE})
                assert deployment["status"] == "ready", deployment["buildLogs"]
                assert "[open-runtimes] Build command execution started." in deployment["buildLogs"]
                record = execute(client, "images", path="/seen")
                assert (record["status"], record["responseStatusCode"]) == ("completed", 200), record["errors"]
                assert record["responseBody"] == (
                    '{"built": "hello\\n", "hook": "made by the image\'s build\\n", "started": true, '
                    '"image": "yes", "variable": "hello", "name": "http"}'
                )
                assert (record["logs"], record["errors"]) == ("asked for /seen\n", "")
                for path, reason in ENDS.items():
                    record = execute(client, "images", path=path)
                    assert (record["status"], record["responseStatusCode"]) == ("failed", 500)
                    assert reason in record["errors"]
                    assert record["logs"].startswith(f"asked for {path}\n")
                assert execute(client, "images", path="/")["responseBody"] == "done"
                commands = "echo not today >&2; exit 3"
                client.put("/functions/images", json={"name": "images", "runtime": python, "commands": commands})
                failed = deploy(client, "images", {"main.py": CODE})
                assert failed["status"] == "failed"
                assert "not today" in failed["buildLogs"] and "Build failed with exit code 3." in failed["buildLogs"]
    except docker.NoDaemon as problem:
        pytest.skip(f"facility docker: {problem}")

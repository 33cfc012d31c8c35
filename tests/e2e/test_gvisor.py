"""A server whose sandboxes have a kernel of their own (gVisor): built, called, ended and gone, in Python and Node."""

import os
import subprocess

import pytest

from tests.support import gvisor
from tests.support.api import create_function, deploy, execute
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, running_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.sandbox,
    pytest.mark.skipif(os.geteuid() != 0, reason="facility root: the driver oci needs root"),
    pytest.mark.skipif(bool(gvisor.why_not()), reason=f"facility runsc: {gvisor.why_not()}"),
]

PYTHON = r"""
import os, time

def main(context):
    action = context.req.path
    context.log("asked for", action)
    if action == "/seen":
        here = os.path.dirname(__file__)
        return context.res.json({
            "built": open(f"{here}/built").read().strip(), "kernel": open("/proc/cmdline").read(),
            "memory": int(open("/proc/meminfo").read().split()[1]) // 1024, "variable": os.environ["GREETING"],
        })
    if action == "/memory":
        held = []
        while True:
            held.append(b"x" * (1 << 20))
    if action == "/exit":
        os._exit(7)
    if action == "/sleep":
        time.sleep(60)
    return context.res.text("done")
"""
NODE = r"""
const { readFileSync } = require('fs');
module.exports = async ({ req, res, log, error }) => {
  log('a line');
  error('another');
  if (req.path === '/throw') throw new Error('as asked');
  if (req.path === '/api') {
    const answer = await fetch(`${process.env.APPWRITE_FUNCTION_API_ENDPOINT}/health/version`);
    return res.json({ status: answer.status });
  }
  return res.json({ kernel: readFileSync('/proc/cmdline', 'utf8') });
};
"""
#: What is asked for -> what the record's errors say.
ENDS = {
    "/memory": "The function used more memory than its limit of 512 MB.",
    "/exit": "The function's process exited with code 7.",
    "/sleep": "Execution timed out.",
}


def test_functions_are_built_called_and_ended_on_a_kernel_of_their_own() -> None:
    settings = {"HEARTH_SANDBOX_DRIVER": "oci", "HEARTH_OCI_RUNTIME": gvisor.program()}
    with running_server(settings) as server, server.client() as client:
        sizes = {"runtimeSpecification": "s-1vcpu-512mb", "timeout": 5}
        commands = 'echo "$GREETING" >built'
        create_function(client, "py", runtime_of("python"), entrypoint="main.py", commands=commands, **sizes)
        client.post("/functions/py/variables", json={"key": "GREETING", "value": "hello"})
        create_function(client, "js", runtime_of("node"), entrypoint="main.js", **sizes)
        for id, files in (("py", {"main.py": PYTHON}), ("js", {"main.js": NODE})):
            deployment = deploy(client, id, dict(files))
            assert deployment["status"] == "ready", deployment["buildLogs"]
        seen = execute(client, "py", path="/seen")
        assert (seen["status"], seen["logs"]) == ("completed", "asked for /seen\n"), seen["errors"]
        for text in ('"built":"hello"', '"variable":"hello"', '"memory":512', "gvisor"):
            assert text in seen["responseBody"].replace('": ', '":')
        for path, reason in ENDS.items():
            ended = execute(client, "py", path=path)
            assert (ended["status"], ended["logs"]) == ("failed", f"asked for {path}\n")
            assert reason in ended["errors"]
        assert execute(client, "py", path="/again")["responseBody"] == "done", "another instance"
        for path, text in (("/", "gvisor"), ("/api", '"status":200')):
            found = execute(client, "js", path=path)
            assert (found["status"], found["logs"], found["errors"]) == ("completed", "a line\n", "another\n")
            assert text in found["responseBody"]
        assert "as asked" in execute(client, "js", path="/throw")["errors"]
        said = subprocess.run(
            [str(HEARTH), "doctor", "--data-dir", str(server.data_dir), "--sandbox-driver", "oci"],
            env={**os.environ, **settings, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout
        assert "gVisor: driver oci with runsc" in " ".join(said.split())

"""Isolation cases S through the whole server: secrets at rest and in passing, starts that must be refused, ends."""

import concurrent.futures
import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearth.runtimes.locations import CODE_INSIDE
from tests.sandbox import harness, modes, report
from tests.sandbox.whole import HEALTHY, OTHER, PROBE_FILES, Platform
from tests.support import docker
from tests.support.api import create_function, execute, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, wait_for

NOBODY = 65_534
REVEAL = """
import os
def main(context):
    context.log('length', len(os.environ['HIDDEN']))
    if context.req.body_text == 'break':
        raise RuntimeError('broken')
    return context.res.text('fine')
"""

LOOK_AROUND = """
import os, sys
for pid in os.listdir('/proc'):
    for name in ('cmdline', 'environ', 'maps'):
        try:
            sys.stdout.buffer.write(open(f'/proc/{pid}/{name}', 'rb').read())
        except OSError:
            pass
"""


# ------------------------------------------------------------------------------------------------ S1, S2


@pytest.fixture(scope="module")
def stopped(owner: modes.Owner) -> Iterator[tuple[Server, str]]:
    """A server that has stored and used a secret, and was stopped."""
    value = f"hidden-{secrets.token_hex(16)}"
    with modes.server(owner) as server:
        with server.client() as client:
            create_function(client, "keeper", runtime_of("python"), entrypoint="main.py")
            variable = {"variableId": "unique()", "key": "HIDDEN", "value": value, "secret": True}
            ok(client.post("/functions/keeper/variables", json=variable))
            from tests.support.api import deploy

            assert deploy(client, "keeper", {"main.py": REVEAL})["status"] == "ready"
            assert execute(client, "keeper")["responseBody"] == "fine", "control: the function has the secret"
            assert str(len(value)) in execute(client, "keeper")["logs"]
        assert server.stop() == 0
        yield server, value


def test_S1_a_secret_is_nowhere_in_clear_and_its_key_is_private(stopped: tuple[Server, str]) -> None:
    server, value = stopped
    searched = 0
    for folder, _, names in os.walk(server.data_dir.parent):
        for name in names:
            data = Path(folder, name).read_bytes()
            searched += len(data)
            assert value.encode() not in data, name
            assert value.encode()[::-1] not in data, name
    keys = sorted((server.data_dir / "keys").iterdir())
    assert [oct(path.stat().st_mode & 0o777) for path in keys] == ["0o600"] * len(keys)
    assert keys
    report.note(f"{searched >> 10} KiB of data folder and log searched; keys: {', '.join(path.name for path in keys)}")


@pytest.mark.parametrize("what", ["missing", "open to others", "another key", "short", "folder"])
def test_S2_without_its_key_a_server_refuses_to_start_and_destroys_nothing(
    stopped: tuple[Server, str], what: str
) -> None:
    server, _ = stopped
    key = server.data_dir / "keys" / "variables.key"
    content, status = key.read_bytes(), key.stat()
    database = (server.data_dir / "hearth.db").read_bytes()
    try:
        if what == "missing":
            key.unlink()
        elif what == "open to others":
            key.chmod(0o644)
        elif what == "another key":
            key.write_bytes(secrets.token_bytes(len(content)))
        elif what == "short":
            key.write_bytes(content[:7])
        else:
            key.unlink()
            key.mkdir()
        code, said = run_to_end(server)
    finally:
        if key.is_dir():
            key.rmdir()
        key.write_bytes(content)
        os.chown(key, status.st_uid, status.st_gid)
        key.chmod(0o600)
    report.note(f"exit {code}: {said[-150:]}")
    assert code == 78
    assert "key" in said
    assert "Traceback" not in said
    after = (server.data_dir / "hearth.db").read_bytes()
    assert len(after) >= len(database)


def test_S2_with_its_key_again_everything_is_there(stopped: tuple[Server, str]) -> None:
    server, _ = stopped
    server.start()
    with server.client() as client:
        execution = execute(client, "keeper")
    report.note(execution["responseBody"])
    assert execution["responseBody"] == "fine"
    assert server.stop() == 0


def run_to_end(server: Server, argv: list[str] | None = None) -> tuple[int, str]:
    """Start a server that is expected to end by itself: its exit code and what it said."""
    done = subprocess.run(argv or server.argv, env=server.environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------ S3, S4, S5


def test_S3_a_secret_cannot_be_read_back_or_met_by_other_users(platform: Platform) -> None:
    ok(platform.client.put(f"/functions/{OTHER}", json={"name": OTHER, "entrypoint": "main.py"}))
    platform.deploy(OTHER, {"main.py": REVEAL})
    execution = execute(platform.client, OTHER)
    assert str(len(platform.secret)) in execution["logs"], "control: the function has it"
    broken = execute(platform.client, OTHER, body="break", method="POST")
    assert broken["status"] == "failed"
    texts = [json.dumps(execution), json.dumps(broken)]
    for path in (
        f"/functions/{OTHER}",
        f"/functions/{OTHER}/variables",
        f"/functions/{OTHER}/executions",
        f"/functions/{OTHER}/deployments",
    ):
        texts.append(platform.client.get(path).text)
    for variable in ok(platform.client.get(f"/functions/{OTHER}/variables"))["variables"]:
        texts.append(platform.client.get(f"/functions/{OTHER}/variables/{variable['$id']}").text)
    texts.append(platform.server.log)
    assert not [text[:200] for text in texts if platform.secret in text]
    look = LOOK_AROUND
    seen = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", look],
        capture_output=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        timeout=30,
    ).stdout
    assert b"hearth" in seen, "control: it reads what it may"
    assert platform.secret.encode() not in seen
    everybody = b"".join(readable(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    assert platform.secret.encode() not in everybody
    platform.deploy(OTHER, {"main.py": HEALTHY})
    platform.assert_healthy()


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_S4_the_environment_of_an_instance_is_the_documented_set(platform: Platform) -> None:
    found = platform.got("who")["environment"]
    plain = {name for name in found if not name.startswith(("APPWRITE_", "OPEN_RUNTIMES_"))}
    report.note({"names": len(found), "besides APPWRITE_ and OPEN_RUNTIMES_": sorted(plain)})
    assert plain <= {"PATH", "HOME", "LANG", *of_the_image()}
    assert "server-canary" not in json.dumps(found), "control: the server itself was given it"
    environment = Path(f"/proc/{platform.server.pid}/environ").read_bytes()
    assert b"server-canary" in environment
    platform.assert_healthy()


def test_S5_a_changed_or_deleted_variable_is_gone_from_the_next_execution(platform: Platform) -> None:
    create_function(platform.client, "changing", runtime_of("python"), entrypoint="main.py")
    variable = {"variableId": "colour", "key": "COLOUR", "value": "old-colour"}
    ok(platform.client.post("/functions/changing/variables", json=variable))
    platform.deploy("changing", PROBE_FILES)
    assert platform.got("who", function="changing")["environment"]["COLOUR"] == "old-colour", "control"
    ok(platform.client.put("/functions/changing/variables/colour", json={"key": "COLOUR", "value": "new-colour"}))
    platform.deploy("changing", PROBE_FILES)
    for _ in range(5):
        assert platform.got("who", function="changing")["environment"]["COLOUR"] == "new-colour"
    assert platform.client.delete("/functions/changing/variables/colour").status_code == 204
    platform.deploy("changing", PROBE_FILES)
    for _ in range(5):
        assert "COLOUR" not in platform.got("who", function="changing")["environment"]
    platform.assert_healthy()


# ------------------------------------------------------------------------------------------------ S6


def test_S6_a_prepared_sandbox_holds_no_secret_and_no_code_and_serves_one_function_only(
    platform: Platform, owner: modes.Owner
) -> None:
    """Sandboxes with a language running and nothing mounted are stems; the one with the secret is the control."""
    if owner.has_gvisor:
        pytest.skip("the guest kernel is gVisor's: what it mounts and runs cannot be told from outside")
    platform.deploy(OTHER, {"main.py": HEALTHY})
    platform.assert_healthy()
    platform.got("who")
    wait_for(lambda: stems(platform), 15, "a prepared sandbox")
    filled = [pid for pid in platform.sandbox_processes() if CODE_INSIDE in readable(mounts_of(pid)).decode()]
    assert any(holds(pid, platform.secret) for pid in filled), "control: the search finds it where it is"
    prepared = stems(platform)
    for pid in prepared:
        root = Path(f"/proc/{pid}")
        names = {item.partition(b"=")[0].decode() for item in readable(root / "environ").split(b"\0") if item}
        assert names <= {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH", *of_the_image()}
        assert not holds(pid, platform.secret)
        assert list((root / f"root{CODE_INSIDE}").iterdir()) == list((root / "root/tmp").iterdir()) == []
        sockets = [link for link in map(target_of, (root / "fd").iterdir()) if link.startswith("socket:")]
        assert len(sockets) == 1, "the channel, and no connection"
    uids = {os.stat(f"/proc/{pid}").st_uid for pid in prepared}
    report.note({"prepared": len(prepared), "uids": sorted(uids)})
    assert len(uids) == len(prepared), "each has an identity of its own"
    platform.deploy(OTHER, {"main.py": HEALTHY})
    platform.assert_healthy()
    assert not any(holds(pid, platform.secret) for pid in stems(platform)), "none goes back to the stock after use"


def of_the_image() -> set[str]:
    """What an image sets itself, where sandboxes are made of one."""
    return set(docker.ENVIRONMENT) if harness.IMAGE else set()


def mounts_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/mountinfo")


def stems(platform: Platform) -> list[int]:
    """The first processes of sandboxes that run a language's server and have been given no code."""
    found = []
    for pid in platform.sandbox_processes():
        command = readable(Path(f"/proc/{pid}/cmdline"))
        mounts = readable(mounts_of(pid)).decode()
        if b"/shims/" in command and b"extract" not in command and mounts and CODE_INSIDE not in mounts:
            found.append(pid)
    return found


def target_of(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def holds(pid: int, text: str) -> bool:
    """Whether a text is anywhere in the readable memory of a process."""
    wanted = text.encode()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in readable(Path(f"/proc/{pid}/maps")).decode().splitlines():
            span, rights = line.split()[:2]
            if rights[0] != "r" or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            rest = b""
            for at in range(start, end, 4 << 20):
                try:
                    data = rest + os.pread(memory.fileno(), min(4 << 20, end - at), at)
                except OSError:
                    break
                if wanted in data:
                    return True
                rest = data[-len(wanted) :]
    return False


# ------------------------------------------------------------------------------------------------ S7, S8


def test_S7_deleting_a_function_while_it_runs_ends_everything_within_two_seconds(
    platform: Platform, owner: modes.Owner
) -> None:
    if owner.has_gvisor:
        pytest.skip("the guest kernel is gVisor's: its programs are no processes of the host; R6 kills them")
    create_function(platform.client, "doomed", runtime_of("python"), entrypoint="main.py", timeout=15)
    platform.deploy("doomed", PROBE_FILES)
    platform.got("who", function="doomed")
    before = set(platform.uids())

    def call() -> None:
        with platform.server.client() as client, contextlib.suppress(Exception):
            client.post(
                "/functions/doomed/executions",
                json={"method": "POST", "body": json.dumps({"case": "daemons", "args": {"stay": 14}})},
            )

    with concurrent.futures.ThreadPoolExecutor() as threads:
        running = threads.submit(call)
        wait_for(lambda: daemons(platform, before) >= 3, 10, "the daemons to run")
        began = time.monotonic()
        assert platform.client.delete("/functions/doomed").status_code == 204
        wait_for(lambda: daemons(platform, before) == 0, 2, "everything of the function to be gone")
        report.note({"gone after s": round(time.monotonic() - began, 2)})
        running.result(30)
    assert before
    platform.assert_healthy()


def daemons(platform: Platform, uids: set[int]) -> int:
    """How many of the probe's daemons run; in a container they are no descendants of the server, but have its uid."""
    pids = {*platform.sandbox_processes(), *platform.processes_of_uids([*uids, *platform.uids()])}
    return sum(b"while :" in readable(Path(f"/proc/{pid}/cmdline")) for pid in pids)

"""Isolation cases through the public API: what a deployed function sees, and what its end looks like from outside."""

import concurrent.futures
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import modes, report
from tests.sandbox.harness import outside
from tests.sandbox.whole import NODE, OTHER, PYTHON, Platform
from tests.support.api import create_function, execute, ok
from tests.support.runtimes import runtime_of
from tests.support.server import wait_for

REFUSED = {"EROFS", "EACCES", "EPERM", "ENOENT"}
ZERO = "0" * 16


@pytest.fixture(autouse=True)
def healthy_after(platform: Platform) -> Iterator[None]:
    yield
    platform.assert_healthy()


@pytest.fixture
def canaries(platform: Platform) -> Iterator[dict[str, str]]:
    """Files with a token beside the data folder, in the server user's home and in /tmp: path -> token."""
    number = os.getpid()
    paths = [f"{platform.server.data_dir}-canary", str(Path.home() / f".canary-{number}"), f"/tmp/canary-{number}"]
    found = {path: secrets.token_hex(16) for path in paths}
    for path, token in found.items():
        Path(path).write_text(token)
    yield found
    for path in found:
        Path(path).unlink()


def test_F1_F2_F3_a_deployed_python_function_reads_writes_and_lists_nothing_of_the_host(
    platform: Platform, canaries: dict[str, str]
) -> None:
    assert set(outside("read_all", {"paths": list(canaries)}).values()) == set(canaries.values()), "control"
    code = str(Path(platform.got("who")["environment"].get("OPEN_RUNTIMES_ENTRYPOINT", "main.py")).name)
    assert code == "main.py"
    assert set(platform.got("read_all", {"paths": list(canaries)}).values()) <= REFUSED
    targets = ["/x", "/usr/x", "/etc/passwd", "/usr/local/server/src/function/main.py", "/usr/local/server/shims/x"]
    assert set(platform.got("write_all", {"paths": targets}).values()) <= REFUSED
    listed = platform.got("list_all", {"paths": ["/home", "/root", "/srv", "/sys", "/boot"]})
    assert all(found in ("ENOENT", []) for found in listed.values()), "not there, or empty in an image"


def test_F1_F2_F3_P1_N2_a_deployed_node_function_is_as_confined(
    platform: Platform, canaries: dict[str, str], owner: modes.Owner
) -> None:
    platform.with_node()
    assert set(platform.got("read", {"paths": list(canaries)}, NODE).values()) <= REFUSED
    written = platform.got("write", {"paths": ["/x", "/usr/x", "/etc/passwd", "/tmp/x"]}, NODE)
    assert written.pop("/tmp/x") == "written", "control"
    assert set(written.values()) <= REFUSED
    paths = {"paths": ["/home", "/root", *([] if owner.has_gvisor else ["/sys"])]}
    assert set(platform.got("list", paths, NODE).values()) == {"ENOENT"}
    for where, status in platform.got("statuses", {}, NODE).items():
        assert {status[name] for name in status if name.startswith("Cap")} == {ZERO}, where
        assert (status["Seccomp"], status["Groups"]) == ("2", ""), where
        assert status.get("NoNewPrivs") == (None if owner.has_gvisor else "1"), "gVisor does not tell"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 2):
            listener.accept()[0].close()  # the control
        found = platform.got("connects", {"targets": [["127.0.0.1", port], ["localhost", port]]}, NODE)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {result for result, _ in found.values()} == {"ECONNREFUSED"}


def test_P2_instances_of_two_functions_have_host_uids_of_their_own(platform: Platform) -> None:
    platform.got("who")
    execute(platform.client, OTHER)
    wait_for(lambda: len(platform.uids()) >= 2, 5, "two instances with a uid each")
    uids = platform.uids()
    report.note({"host uids": sorted(uids)})
    assert not uids & {0, os.stat(f"/proc/{platform.server.pid}").st_uid}


def test_F7_what_an_instance_leaves_in_tmp_is_for_itself_alone(platform: Platform) -> None:
    platform.got("write_all", {"paths": ["/tmp/left"]})
    mine = platform.got("list_all", {"paths": ["/tmp"]})["/tmp"]
    assert "left" in mine, "the same living instance sees it"
    create_function(platform.client, "second", runtime_of("python"), entrypoint="main.py")
    from tests.sandbox.whole import PROBE_FILES

    platform.deploy("second", PROBE_FILES)
    assert "left" not in platform.got("list_all", {"paths": ["/tmp"]}, "second")["/tmp"]
    platform.deploy(PYTHON, PROBE_FILES)  # another version: new instances
    assert "left" not in platform.got("list_all", {"paths": ["/tmp"]})["/tmp"]


# ------------------------------------------------------------------------------------------------ time, memory, ends


def test_R5_a_run_past_its_timeout_fails_in_time_and_its_instance_is_gone(platform: Platform) -> None:
    create_function(platform.client, "late", runtime_of("python"), entrypoint="main.py", timeout=1)
    from tests.sandbox.whole import PROBE_FILES

    platform.deploy("late", PROBE_FILES)
    first = platform.got("who", function="late")
    before = platform.uids()
    began = time.monotonic()
    execution = platform.run("wait", {"seconds": 30}, "late")
    took_s = time.monotonic() - began
    assert execution["status"] == "failed"
    assert "timed out" in execution["errors"]
    assert 1 <= took_s < 2 + 1, took_s
    assert execution["duration"] < 2.1
    assert platform.got("who", function="late")["instance"] != first["instance"], "another instance serves the next"
    report.note({"took_s": round(took_s, 2), "status": execution["responseStatusCode"]})
    assert before


@pytest.mark.parametrize("child", [False, True], ids=["R1 itself", "R2 in a child"])
def test_R1_R2_memory_above_the_limit_fails_the_run_and_says_memory(platform: Platform, child: bool) -> None:
    execution = platform.run("swallow", {"bound": 600, "child": child})
    assert execution["status"] == "failed"
    assert "memory" in execution["errors"]
    assert "timed out" not in execution["errors"]
    assert platform.got("who")["pid"] >= 1, "the next call works"


def test_R3_a_fork_bomb_ends_at_the_process_limit_and_is_gone_with_its_instance(
    platform: Platform, owner: modes.Owner
) -> None:
    if owner.has_gvisor:  # where each process costs some 7 MB
        execution = platform.run("fork_bomb", {"bound": 2_000})
        assert execution["status"] == "failed" and "memory than its limit" in execution["errors"]
        return
    found = platform.got("fork_bomb", {"bound": 2_000})
    assert found["end"] == "EAGAIN"
    assert 1 < found["children"] < 1_000
    before = platform.uids()
    platform.run("die")
    wait_for(lambda: len(platform.sandbox_processes()) < 50, 2, "the bomb to be gone")
    assert before


def test_R6_daemons_end_with_their_instance(platform: Platform) -> None:
    platform.got("daemons")
    uids = platform.uids()
    running = len(platform.processes_of_uids(list(uids)))
    assert running > 3, "the daemons run"
    before = platform.got("who")["instance"]
    platform.run("die")
    assert platform.got("who")["instance"] != before
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in platform.sandbox_processes()]
    assert not [name for name in names if b"while :" in name]


def test_R7_after_the_answer_an_instance_computes_no_more(platform: Platform) -> None:
    platform.got("background")

    def ticks() -> int:
        total = 0
        for pid in platform.sandbox_processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total

    wait_for(lambda: settled(ticks), 5, "the processor time to stand still")
    platform.run("die")


def settled(ticks: Any) -> bool:
    first = ticks()
    time.sleep(0.3)  # in which a running one uses 30 ticks
    return bool(ticks() - first <= 2)


def test_R10_crashes_in_a_row_are_each_told_and_leave_no_core(platform: Platform) -> None:
    before = set(os.listdir("/tmp")) | set(os.listdir("/"))
    began = time.monotonic()
    for _ in range(8):
        execution = platform.run("die")
        assert execution["status"] == "failed"
        assert "SIGSEGV" in execution["errors"]
    report.note(f"8 crashes in {time.monotonic() - began:.1f} s")
    new = (set(os.listdir("/tmp")) | set(os.listdir("/"))) - before
    assert not [name for name in new if "core" in name]


def test_R11_two_hundred_runs_at_once_are_queued_within_the_cap(platform: Platform) -> None:
    """The server of these tests allows four instances of a deployment."""
    most = 0

    def call(number: int) -> str:
        with platform.server.client() as client:
            body = json.dumps({"case": "wait", "args": {"seconds": 0.02}})
            reply = client.post(f"/functions/{PYTHON}/executions", json={"body": body, "method": "POST"})
            return ok(reply)["status"] if reply.status_code < 300 else str(reply.status_code)

    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        calls = [threads.submit(call, number) for number in range(200)]
        while not all(one.done() for one in calls):
            most = max(most, len(platform.uids()))
            time.sleep(0.05)
    results = [one.result() for one in calls]
    report.note({"results": {name: results.count(name) for name in set(results)}, "uids at once": most})
    assert set(results) <= {"completed", "429", "503"}
    assert results.count("completed") > 100
    assert 0 < most <= 4 + 12, "four of this deployment, and what other functions and the stock hold"


# ------------------------------------------------------------------------------------------------ channel and output


@pytest.mark.parametrize("kind", ["junk", "half", "large", "other", "descriptors"])
def test_P14_misuse_of_the_control_descriptor_ends_that_instance_alone(
    platform: Platform, kind: str, owner: modes.Owner
) -> None:
    platform.got("who")
    platform.run("control", {"kind": kind})  # once, so that what this grows once is there
    neighbour = platform.got("who")["instance"]
    before, open_before = platform.resident_kb(), len(os.listdir(f"/proc/{platform.server.pid}/fd"))
    execution = platform.run("control", {"kind": kind})
    assert execution["status"] == "failed"
    if owner.has_gvisor and kind == "descriptors":
        assert "OSError" in execution["errors"], "its kernel hands no descriptor over to ours"
        return
    assert "control channel" in execution["errors"] or "exited with code 3" in execution["errors"]
    grown_kb = platform.resident_kb() - before
    report.note({"server grew kB": grown_kb})
    assert grown_kb < 1_024
    assert len(os.listdir(f"/proc/{platform.server.pid}/fd")) <= open_before + 4
    assert platform.got("who")["instance"] != neighbour, "another instance serves the next request"


@pytest.mark.parametrize(
    "args",
    [
        {"kind": "bytes", "size": 1 << 30},
        {"kind": "bytes", "size": 256 << 20, "to": 2},
        {"kind": "line", "size": 100 << 20},
        {"kind": "odd", "size": 1 << 20},
        {"kind": "bytes", "size": 0, "logs": 200_000},
    ],
    ids=["1 GiB", "stderr", "one line", "odd bytes", "many lines"],
)
def test_R8_a_flood_of_output_is_cut_with_a_mark_and_costs_the_server_little(
    platform: Platform, args: dict[str, Any]
) -> None:
    platform.run("output", {**args, "size": min(args["size"], 32 << 20)})
    before = platform.resident_kb()
    execution = platform.run("output", args)
    assert execution["status"] == "completed", execution["errors"]
    assert len(execution["logs"]) <= 1_000_000
    assert len(execution["errors"]) <= 1_000_000
    if args["size"] > 1 << 20 or args.get("logs"):
        assert "truncated" in (execution["logs"] + execution["errors"])
    assert "\0" not in execution["logs"]
    grown_kb = platform.resident_kb() - before
    report.note({"log": len(execution["logs"]), "server grew kB": grown_kb})
    assert grown_kb < 32 * 1_024
    other = execute(platform.client, OTHER)
    assert other["logs"] == "", "no other log is mixed in"


@pytest.mark.parametrize("kind", ["large", "headers", "injection", "short"])
def test_R9_a_response_against_the_rules_is_cut_or_refused(platform: Platform, kind: str) -> None:
    execution = platform.run("answer", {"kind": kind, "size": 100 << 20})
    headers = {header["name"].lower(): header["value"] for header in execution["responseHeaders"]}
    assert "set-cookie" not in headers
    assert "x-f" not in headers
    if kind == "large":
        assert execution["responseStatusCode"] == 500
        assert "larger than the limit" in execution["errors"]
    if kind == "headers":
        assert len(headers) < 1_000 or execution["responseStatusCode"] >= 500
    report.note({"headers": len(headers)})


# ------------------------------------------------------------------------------------------------ the platform's API


def test_N8_from_inside_the_api_trusts_nobody_for_where_he_is(platform: Platform) -> None:
    project = platform.server.credentials["projectId"]
    own = {"x-appwrite-project": project, "x-appwrite-key": "own"}
    calls = {
        "control": ["GET", "/users", own],
        "no key": ["GET", "/users", {"x-appwrite-project": project}],
        "own key, other scope": ["GET", "/functions", own],
        "no key, functions": ["GET", "/functions", {"x-appwrite-project": project}],
        "changed key": ["GET", "/users", {**own, "x-appwrite-key": "dynamic_" + "x" * 100}],
        "other project": ["GET", "/users", {**own, "x-appwrite-project": "console"}],
        "unknown project": ["GET", "/users", {**own, "x-appwrite-project": "nobody"}],
        "projects": ["GET", "/projects", {"x-appwrite-project": "console"}],
        "keys": ["GET", "/projects/default/keys", own],
        "variables of another": ["GET", f"/functions/{OTHER}/variables", own],
    }
    execution = platform.run("api", {"calls": calls})
    found = json.loads(execution["responseBody"])["got"]
    codes = {name: code for name, (code, _) in found.items()}
    report.note(codes)
    assert codes.pop("control") in (200, 404), found["control"]
    assert set(codes.values()) <= {401, 403, 404}, codes
    stolen = json.loads(execution["responseBody"])["key"]
    assert stolen
    outsider = platform.client.get(
        "/functions", headers={"x-appwrite-key": stolen + "x", "x-appwrite-project": project}
    )
    assert outsider.status_code in (401, 403)

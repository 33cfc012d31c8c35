"""Isolation case S8: on a machine that lacks a facility the server does not start by accident."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.sandbox import modes, report
from tests.sandbox.whole import HEALTHY, SMALL
from tests.support.api import create_function, deploy, execute
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, Server, server_folder

READ_ONLY_CGROUPS = """
awk '$(NF-2) ~ /^cgroup/ {print $5}' /proc/self/mountinfo | while read -r point; do
  mount -o remount,bind,ro "$point"
done
exec "$@"
"""

WITHOUT_SECCOMP = """
import os, struct, sys
from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.filters import generate as g
table = g.numbers(syscalls.MACHINE)
prctl = g.argument(0) + g.when(g.JUMP_EQUAL, 22, g.error(22), g.answer(g.ALLOW))
others = g.when(g.JUMP_EQUAL, table["prctl"], prctl, g.answer(g.ALLOW))
program = [(g.LOAD_WORD, 0, 0, 0), *g.when(g.JUMP_EQUAL, table["seccomp"], g.error(38), others)]
syscalls.load_seccomp(b"".join(struct.pack("=HBBI", *one) for one in program))
os.execv(sys.argv[1], sys.argv[1:])
"""

PREFIXES = {
    "cgroups": ["unshare", "-m", "sh", "-c", READ_ONLY_CGROUPS, "sh"],
    "seccomp": [sys.executable, "-c", WITHOUT_SECCOMP],
    "mounts": ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--"],
}
WEAKENED = ("cgroups", "seccomp")


@pytest.fixture
def server(facility: str) -> Iterator[Server]:
    """A server, not started, on a machine made to lack one facility."""
    if reason := modes.why_not(modes.NS_ROOT):
        pytest.skip(reason)
    with server_folder() as folder:
        yield Server(folder, {}, PREFIXES[facility])


def refused(server: Server) -> tuple[int, list[str]]:
    """Start a server that must not start: its exit code, and the lines that say why."""
    done = subprocess.run(server.argv, env=server.environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("hearth: ")]


@pytest.mark.parametrize("facility", PREFIXES)
def test_S8_without_a_facility_the_start_is_refused_with_a_line_that_says_what_to_do(
    server: Server, facility: str
) -> None:
    code, lines = refused(server)
    assert code == 78, lines
    report.note(lines[0])
    named = [line for line in lines if line.startswith(f"hearth: {facility}: ")]
    assert len(named) == 1, lines
    assert ("--weaken=" + facility in named[0]) is (facility in WEAKENED)
    assert len({line.split(":")[1] for line in lines}) == len(lines), "one line per facility"
    assert not server.data_dir.exists(), "nothing was begun"


@pytest.mark.parametrize("facility", WEAKENED)
def test_S8_with_the_named_flag_it_starts_says_so_and_doctor_stays_red(server: Server, facility: str) -> None:
    server.environment["HEARTH_WEAKEN"] = facility
    server.start()
    try:
        assert "ISOLATION IS WEAKENED" in server.log
        doctor = [*server.prefix, str(HEARTH), "doctor", "--json", "--data-dir", str(server.data_dir)]
        done = subprocess.run(doctor, env=server.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        (finding,) = [one for one in json.loads(done.stdout)["findings"] if one["name"].startswith(facility)]
        report.note(f"banner; doctor: {finding['colour']}, {finding['detail']}")
        assert finding["colour"] == "red"
    finally:
        assert server.stop() == 0
    server.assert_nothing_left()


# ------------------------------------------------------------------------------------------------ an ordinary user

WITHOUT_USER_NAMESPACES = """
import os, struct, sys
from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.filters import generate as g
table = g.numbers(syscalls.MACHINE)
unshare = g.argument(0) + g.when(g.JUMP_SET, syscalls.CLONE_NEWUSER, g.error(1), g.answer(g.ALLOW))
program = [(g.LOAD_WORD, 0, 0, 0), *g.when(g.JUMP_EQUAL, table["unshare"], unshare, g.answer(g.ALLOW))]
syscalls.load_seccomp(b"".join(struct.pack("=HBBI", *one) for one in program))
os.execv(sys.argv[1], sys.argv[1:])
"""
HEALTHY_NODE = "module.exports = async ({ res }) => res.text('fine');\n"


@pytest.mark.parametrize("facility", ["subids", "cgroups", "userns"])
def test_S8_an_ordinary_user_is_told_what_is_missing_for_him(facility: str) -> None:
    if reason := modes.why_not(modes.NS_USER):
        pytest.skip(reason)
    with (
        server_folder() as folder,
        modes.ordinary_user(delegate=facility != "cgroups", subordinate=facility != "subids") as user,
    ):
        os.chown(folder, user.uid, user.gid)
        prefix = user.prefix
        if facility == "userns":
            sh = ["/bin/sh", *prefix[1:]]
            prefix = [sys.executable, "-c", WITHOUT_USER_NAMESPACES, *sh]
        server = Server(folder, {}, prefix)
        code, lines = refused(server)
        report.note(lines[0] if lines else "")
        assert code == 78, lines
        named = [line for line in lines if line.startswith(f"hearth: {facility}: ")]
        assert len(named) == 1, lines
        assert ("--weaken=cgroups" in named[0]) is (facility == "cgroups")
        assert "root" in named[0] or "Delegate" in named[0], "there is a way out"
        assert not server.data_dir.exists()


def test_S8_an_ordinary_user_without_control_groups_runs_functions_once_he_says_so() -> None:
    """Then resource limits are all there is; the banner and doctor say it."""
    if reason := modes.why_not(modes.NS_USER):
        pytest.skip(reason)
    with server_folder() as folder, modes.ordinary_user(delegate=False) as user:
        os.chown(folder, user.uid, user.gid)
        server = Server(folder, {"HEARTH_WEAKEN": "cgroups"}, user.prefix)
        server.start()
        try:
            assert "ISOLATION IS WEAKENED" in server.log
            with server.client() as client:
                for family, source in (("python", {"main.py": HEALTHY}), ("node", {"main.js": HEALTHY_NODE})):
                    entrypoint = next(iter(source))
                    create_function(client, family, runtime_of(family), entrypoint=entrypoint, **SMALL)
                    assert deploy(client, family, dict(source))["status"] == "ready"
                    assert execute(client, family)["responseBody"] == "fine"
                greedy = "def main(context):\n    return context.res.text(str(len(bytearray(4 << 30))))\n"
                assert deploy(client, "python", {"main.py": greedy})["status"] == "ready"
                execution = execute(client, "python")
            report.note(f"{execution['status']}: {execution['errors'].strip().splitlines()[-1]}")
            assert execution["status"] == "failed"
            assert "MemoryError" in execution["errors"]
        finally:
            assert server.stop() == 0
        server.assert_nothing_left()

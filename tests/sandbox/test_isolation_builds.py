"""Isolation cases B5-B7 and F9 through the public API: build commands as attackers."""

import concurrent.futures
import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import report
from tests.sandbox.whole import HEALTHY, Platform
from tests.support.api import built, create_function, execute, ok, upload
from tests.support.archives import archive
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, wait_for

MIB = 1 << 20
QUOTA_MIB = 128  # HEARTH_BUILD_DISK_MB of the server of these tests
FREED_S = 10.0
"""How long after its end a build's disk may be held by whoever clears its container away."""
SIZE = {"specification": "s-1vcpu-512mb", "buildSpecification": "s-1vcpu-512mb", "entrypoint": "main.py"}
_numbers = iter(range(1, 1_000))


@pytest.fixture(autouse=True)
def healthy_after(platform: Platform) -> Iterator[None]:
    yield
    platform.assert_healthy()


def build(
    platform: Platform, commands: str, files: Mapping[str, str | bytes] | None = None, **more: Any
) -> dict[str, Any]:
    """A function of its own whose build runs `commands`: the deployment, ended."""
    id = f"build-{next(_numbers)}"
    create_function(platform.client, id, runtime_of("python"), commands=commands, **SIZE)
    for key, value in more.get("variables", {}).items():
        ok(
            platform.client.post(
                # Not secret: values of secret variables are not shown in a build's log.
                f"/functions/{id}/variables",
                json={"variableId": "unique()", "key": key, "value": value, "secret": False},
            )
        )
    deployment = ok(upload(platform.client, id, archive(files or {"main.py": HEALTHY})))
    found = built(platform.client, id, deployment["$id"]) | {"functionId": id}
    report.note(f"{found['status']}: {found['buildLogs'].strip().splitlines()[-1][-150:]}", "build")
    return found


# ------------------------------------------------------------------------------------------------ F9


class DiskUse:
    """The most disk that builds of a server held while this ran, sampled: work folder and files without a name."""

    def __init__(self, platform: Platform) -> None:
        self._server = platform.server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.most = 0

    def now(self) -> int:
        total = 0
        for folder, names, files in os.walk(self._server.data_dir / "work"):
            for name in (*names, *files):
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                except OSError:
                    continue
        unnamed: dict[int, int] = {}
        for process in self._server.note_footprint().processes:
            if "sandbox.spawner" in process.command:
                unnamed |= unnamed_bytes(process.pid)  # its children have the same file open
        return total + sum(unnamed.values())

    def _sample(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, self.now())

    def __enter__(self) -> "DiskUse":
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._over.set()
        self._thread.join()


def unnamed_bytes(pid: int) -> dict[int, int]:
    """Inode -> bytes on disk of the deleted files that a process holds open."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            status = os.stat(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if status.st_nlink == 0 and status.st_blocks:
            found[status.st_ino] = status.st_blocks * 512
    return found


def test_F9_control_a_build_below_the_quota_is_ready_and_its_disk_is_given_back(platform: Platform) -> None:
    with DiskUse(platform) as use:
        found = build(platform, f"head -c {QUOTA_MIB // 2}M /dev/urandom > big; sleep 0.3; rm big")
        assert found["status"] == "ready", found["buildLogs"]
    assert use.most > (QUOTA_MIB // 2 - 4) * MIB, "the measure sees what a build writes"
    assert use.now() < MIB


MANY_FILES = """
import os
made = 0
try:
    for folder in range(1000):
        os.mkdir(f'd{folder}')
        for number in range(1000):
            with open(f'd{folder}/{number}', 'w') as file:
                file.write('x')
            made += 1
finally:
    print('made', made, flush=True)
"""


@pytest.mark.parametrize(
    "commands",
    [
        "for i in $(seq 40); do head -c 10M /dev/zero > $i || exit 9; done",
        "head -c 1G /dev/zero > big",
        "for i in $(seq 40); do head -c 10M /dev/zero > ~/$i || exit 9; done",
        "(for i in $(seq 40); do head -c 10M /dev/zero > $i & done; wait); sleep 2",
        "truncate -s 1T sparse || exit 9; python3 many.py || exit 9",
        "python3 many.py || exit 9",
    ],
    ids=["many files", "one file", "home", "all at once", "sparse 1 TiB", "a million small files"],
)
def test_F9_a_build_above_its_quota_fails_with_the_reason_and_holds_no_more(platform: Platform, commands: str) -> None:
    if reason := no_disks(platform):
        pytest.skip(reason)
    with DiskUse(platform) as use:
        found = build(platform, commands, {"main.py": HEALTHY, "many.py": MANY_FILES})
    assert found["status"] == "failed", found["buildLogs"]
    log = found["buildLogs"]
    assert "MB of disk space" in log.strip().splitlines()[-1] or "File size limit exceeded" in log, log[-2_000:]
    report.note({"most MiB": round(use.most / MIB, 1), "after MiB": round(use.now() / MIB, 1)})
    assert use.most <= (QUOTA_MIB + 2) * MIB
    wait_for(lambda: use.now() < MIB, FREED_S, "the disk to be given back")


def no_disks(platform: Platform) -> str:
    """Why builds have no disk of their own here, as doctor says it; `""` if they have."""
    command = [*platform.server.prefix, str(HEARTH), "doctor", "--json", "--data-dir", str(platform.server.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["name"] == "disks"]
    return "" if found["colour"] == "green" else f"facility disks: {found['detail']}"


@pytest.mark.parametrize("commands", ["for i in $(seq 40); do head -c 10M /dev/zero > $i; done; sleep 30"])
def test_F9_without_a_disk_of_its_own_a_build_is_watched_and_ended(platform: Platform, commands: str) -> None:
    """Where there are disks this holds all the more."""
    began = time.monotonic()
    found = build(platform, commands)
    assert found["status"] == "failed"
    assert "MB of disk space" in found["buildLogs"].strip().splitlines()[-1]
    assert time.monotonic() - began < 10


# ------------------------------------------------------------------------------------------------ B5, B6, B7


def test_B5_a_build_knows_its_own_variables_and_nothing_of_the_server(platform: Platform) -> None:
    mine = f"mine-{secrets.token_hex(8)}"
    commands = "env; cat /proc/*/environ | tr '\\0' '\\n'; cat /proc/*/cmdline | tr '\\0' ' '; ls -la ~ /run /etc"
    found = build(platform, commands, variables={"MINE": mine})
    assert found["status"] == "ready"
    log = found["buildLogs"]
    assert mine in log, "control: its own variable is there"
    assert platform.secret not in log
    assert platform.server.credentials["apiKey"] not in log
    assert platform.server.credentials["consolePassword"] not in log
    assert "HEARTH_" not in log
    assert str(platform.server.data_dir) not in log


def test_B6_nothing_of_a_build_survives_into_its_execution_or_another_build(platform: Platform) -> None:
    poison = (
        "(setsid sleep 4711 &); echo registry=http://evil > ~/.npmrc; mkdir -p ~/.cache ~/.config/pip;"
        "echo x > ~/.cache/left; echo x > /tmp/left; (crontab -l; echo '* * * * * x') | crontab - ;"
        "echo bad > /usr/lib/python3/dist-packages/x.py; echo bad >> /usr/local/server/shims/python/shim.py; true"
    )
    first = build(platform, poison)
    assert first["status"] == "ready", first["buildLogs"]
    look = (
        "ls -A ~ ~/.cache /tmp $TMPDIR /var/spool/cron 2>&1; cat ~/.npmrc 2>&1; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    )
    second = build(platform, look)
    for trace in ("left", "evil", "4711"):
        assert trace not in second["buildLogs"]
    assert execute(platform.client, first["functionId"])["responseBody"] == "fine"
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
    assert not [command for command in commands if b"4711" in command]


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_B6_two_builds_at_once_do_not_find_each_other(platform: Platform) -> None:
    """Each leaves a mark and waits for the other to have left one; then it looks for what is not its own."""
    words = ["alpha" + secrets.token_hex(4), "beta" + secrets.token_hex(4)]
    commands = (
        "echo {0} > /tmp/mark; echo {0} > ~/mark; bash -c 'exec -a {0} sleep 2' & sleep 1.5;"
        "cat /tmp/mark ~/mark; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls /proc | grep -c '^[0-9]'"
    )
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda word: build(platform, commands.format(word)), words))
    for mine, other, found in zip(words, reversed(words), both, strict=True):
        assert found["status"] == "ready", found["buildLogs"]
        assert mine in found["buildLogs"], "control: it sees its own"
        assert other not in found["buildLogs"]


def test_B7_a_build_over_its_time_is_ended_and_keeps_its_log(platform: Platform) -> None:
    began = time.monotonic()
    found = build(platform, "echo begun; sleep 300")
    assert found["status"] == "failed"
    assert "begun" in found["buildLogs"]
    assert "timed out" in found["buildLogs"]
    assert time.monotonic() - began < 20


def test_B7_standard_input_is_empty_and_output_that_is_no_folder_of_files_fails(platform: Platform) -> None:
    assert build(platform, "test $(cat | wc -c) = 0")["status"] == "ready"
    for commands, variables in (
        ("rm -rf * .[a-z]*; true", {}),
        ("ln -s /etc out", {"OPEN_RUNTIMES_OUTPUT_DIRECTORY": "out"}),
        ("true", {"OPEN_RUNTIMES_OUTPUT_DIRECTORY": "missing"}),
    ):
        found = build(platform, commands, variables=variables)
        assert found["status"] == "failed", commands

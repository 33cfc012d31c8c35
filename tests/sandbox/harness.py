"""Running the probe inside a sandbox, and outside as a control; what both leave on the host."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.ns import NsDriver, NsSandbox
from hearth.executor.sandbox.spec import Limits, Mount, Profile, SandboxExit, SandboxSpec
from tests.sandbox import report
from tests.support.uids import first_uid

T = TypeVar("T")

PYTHON = "/usr/bin/python3"
PROBE = Path(__file__).with_name("probe.py")
PROBE_INSIDE = "/mnt/probe.py"
PROBE_FILES = ("probe.py", "probe_network.py", "probe_resources.py")
"""The probe's own files, which stay side by side."""
LIMITS = Limits(memory_bytes=192 << 20, cpus=2.0)
FIRST_UID, UIDS = first_uid(0), 500
SERVER_UID = 61_000
"""The uid the server of these tests would run as; it owns what is in the data folder."""

SYSTEM = ""
"""The folder whose system sandboxes of `spec` have, `""` = the host's; see `with_system`."""

IMAGE = ""
"""The Docker image that sandboxes of `spec` are made of, `""` = none; see `with_image`."""

_numbers = iter(range(1, 1_000_000))


@dataclass(frozen=True, slots=True)
class Ran:
    """How a sandbox ended and what it wrote."""

    exit: SandboxExit
    text: str

    @property
    def answer(self) -> Any:
        """The JSON object the probe printed last."""
        lines = self.text.strip().splitlines()
        assert lines, f"the probe printed nothing: {self.exit}"
        try:
            return json.loads(lines[-1].lstrip("."))
        except ValueError:
            raise AssertionError(f"{self.exit}: {self.text[-2000:]}") from None


def spec(case: str, args: Mapping[str, Any] | None = None, **changes: Any) -> SandboxSpec:
    """A sandbox that runs one case of the probe."""
    files = (Mount(str(PROBE.with_name(name)), f"/mnt/{name}") for name in PROBE_FILES)
    mounts = (*files, *changes.pop("mounts", ()))
    fields: dict[str, Any] = {
        "id": f"t{next(_numbers)}",
        "profile": Profile.RUN,
        "argv": (PYTHON, "-I", "-S", PROBE_INSIDE, case, json.dumps(args or {})),
        "environment": {"HOME": "/tmp", "PATH": "/usr/bin:/bin"},
        "limits": LIMITS,
        "channel": False,
        "root": SYSTEM,
        "image": "" if SYSTEM else IMAGE,
    }
    return SandboxSpec(**{**fields, **changes}, mounts=mounts)


@contextlib.contextmanager
def with_system(folder: Path) -> Iterator[None]:
    """Meanwhile the sandboxes of `spec` have the system in `folder`."""
    global SYSTEM
    SYSTEM = str(folder)
    try:
        yield
    finally:
        SYSTEM = ""


@contextlib.contextmanager
def with_image(image: str) -> Iterator[None]:
    """Meanwhile the sandboxes of `spec` are made of this Docker image."""
    global IMAGE
    IMAGE = image
    try:
        yield
    finally:
        IMAGE = ""


async def run(driver: NsDriver, case: str, args: Mapping[str, Any] | None = None, **changes: Any) -> Ran:
    """Run a case to its end (at most `timeout_s`, then it is killed)."""
    timeout_s = changes.pop("timeout_s", 30.0)
    sandbox = await driver.start(spec(case, args, **changes))
    reading = asyncio.ensure_future(output_of(sandbox))
    try:
        async with asyncio.timeout(timeout_s):
            how = await sandbox.wait()
    except TimeoutError:
        how = await sandbox.kill()
    ran = Ran(how, await reading)
    report.note(f"{case or 'program'}: {ran.text.strip() or how}", "gate" if "network" in changes else "")
    return ran


async def output_of(sandbox: NsSandbox) -> str:
    """Everything the sandbox writes until its end; closes the pipe."""
    data = b""
    while part := await read_some(sandbox.output):
        data += part
    os.close(sandbox.output)
    if sandbox.channel is not None:
        sandbox.channel.close()
    return data.decode(errors="replace")


async def read_some(fd: int) -> bytes:
    """What can be read now, waiting for the first byte."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if readable.done() else readable.set_result(None))
    try:
        await readable
        return os.read(fd, 65_536)
    finally:
        loop.remove_reader(fd)


def outside(case: str, args: Mapping[str, Any] | None = None) -> Any:
    """The control: the same case on the host, as this user."""
    command = [PYTHON, "-I", "-S", str(PROBE), case, json.dumps(args or {})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_network(pid: int, action: Callable[[], T]) -> T:
    """Run `action` in the network namespace of another process (in a thread, which is thrown away)."""
    result: list[T] = []
    problem: list[BaseException] = []

    def enter() -> None:
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
            os.close(fd)
            result.append(action())
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    return result[0]


class Internet:
    """The made-up internet (see internet.py) in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("internet.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._line() == "ready"

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _ask(self, what: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()
        return self._line()

    def seen(self) -> dict[str, Any]:
        """What reached the listeners since the last time this was asked."""
        answer: dict[str, Any] = self._ask("seen")
        return answer

    def held(self) -> int:
        """How many connections that asked to be held are open."""
        answer: int = self._ask("held")
        return answer

    def close(self) -> None:
        self.process.communicate(timeout=10)


def processes_of(uid: int) -> list[int]:
    """Pids of the live processes (zombies left out) of a uid, threads' uids looked at as well."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                rows = dict(
                    line.split(":", 1) for line in Path(f"/proc/{name}/status").read_text().splitlines() if ":" in line
                )
            except OSError:
                continue
            if str(uid) in rows["Uid"].split() and "Z" not in rows["State"]:
                found.append(int(name))
    return found


async def until(condition: Callable[[], Any], within_s: float, what: str) -> None:
    """Poll until `condition` holds; fails with `what` after `within_s` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        assert loop.time() < deadline, what
        await asyncio.sleep(0.02)

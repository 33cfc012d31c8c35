"""The user namespace around the spawner of a server that an ordinary user started.

Inside it the spawner is root over that user's subordinate ids (subuid(5)) and over nothing else; from there on
everything is as if it were started by root. The ids are mapped by newuidmap and newgidmap (Debian package uidmap).
"""

import contextlib
import dataclasses
import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence

from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.spec import Facility

SUBORDINATE_MIN = 1_000
"""Subordinate ids below which a server would soon have no uid for another sandbox."""
OVERFLOW_ID = 65_534
"""What every id outside the namespace looks like inside: given to no sandbox."""
TOOLS = ("newuidmap", "newgidmap")
_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_ANSWER_BYTES = 1 << 16


def for_ordinary_user(config: SpawnerConfig) -> SpawnerConfig:
    """The configuration for a server started by the calling user, whose own files are root's inside the namespace.

    Without enough subordinate ids `outer_uids` stays empty, which `facilities` reports.
    """
    uids, gids = (_range(path) for path in ("/etc/subuid", "/etc/subgid"))
    count = min(uids[1], gids[1], OVERFLOW_ID - 1)
    if count < SUBORDINATE_MIN:
        return dataclasses.replace(config, outer_uids=(), outer_gids=())
    return dataclasses.replace(
        config, server_uid=0, server_gid=0, uid_first=1, uid_count=count, outer_uids=uids, outer_gids=gids
    )


def _range(path: str) -> tuple[int, int]:
    """The calling user's largest range of subordinate ids in a file: (first, count); (0, 0) without one."""
    names = {str(os.getuid())}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    found = (0, 0)
    with contextlib.suppress(OSError, ValueError), open(path) as file:
        for line in file:
            name, _, rest = line.strip().partition(":")
            first, _, count = rest.partition(":")
            if name in names and int(count) > found[1]:
                found = (int(first), int(count))
    return found


def enter(config: SpawnerConfig) -> None:
    """Become root of a new user namespace with the ids of `config`, and of a mount namespace of its own.

    Single-threaded processes only; raises OSError with what went wrong.
    """
    commands = [
        [tool, str(os.getpid()), "0", str(own), "1", "1", str(first), str(count)]
        for tool, own, (first, count) in zip(
            TOOLS, (os.getuid(), os.getgid()), (config.outer_uids, config.outer_gids), strict=True
        )
    ]
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # the tools look whose process it is
    go_reader, go_writer = os.pipe()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_writer)
        os.close(reader)
        _map(commands, go_reader, writer)
    os.close(go_reader)
    os.close(writer)
    problem = ""
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(go_writer, b"g")
        problem = os.read(reader, 400).decode(errors="replace")
    finally:
        os.close(go_writer)
        os.close(reader)
        os.waitpid(pid, 0)
    if problem:
        raise OSError(problem)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def _map(commands: Sequence[Sequence[str]], go: int, writer: int) -> None:
    """In a child outside of the namespace: wait until it is there, then have the ids mapped; says what went wrong."""
    try:
        if os.read(go, 1):
            for command in commands:
                done = subprocess.run(
                    command, stderr=subprocess.PIPE, env={"PATH": _PATH}, timeout=10, check=False, text=True
                )
                if done.returncode:
                    os.write(writer, f"{command[0]}: {done.stderr.strip()}".encode()[:400])
                    break
    except BaseException as problem:  # noqa: BLE001 - told to the parent
        os.write(writer, str(problem).encode()[:400] or b"failed")
    finally:
        os._exit(0)


def facilities(config: SpawnerConfig) -> list[Facility]:
    """Whether the calling ordinary user can have such a namespace: a line for each thing that is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]
    tools = "newuidmap and newgidmap" if not missing else f"{' and '.join(missing)} not installed"
    found = [Facility("uidmap", not missing, tools, "apt-get install uidmap, or start hearth as root")]
    name = str(os.getuid())
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(os.getuid()).pw_name
    if config.outer_uids:
        first, count = config.outer_uids
        found.append(Facility("subids", True, f"subordinate uids {first}-{first + count - 1} of {name}"))
    else:
        ids = "200000-265535"
        fix = f"as root: usermod --add-subuids {ids} --add-subgids {ids} {name}; or start hearth as root"
        detail = f"{name} has no range of {SUBORDINATE_MIN} ids in /etc/subuid and /etc/subgid"
        found.append(Facility("subids", False, detail, fix))
    fix = (
        "allow user namespaces: sysctl user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1 (Debian), "
        "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), or start hearth as root"
    )
    problem = _problem_of(lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
    if not problem and all(one.ok for one in found):
        problem = _problem_of(lambda: enter(config))
    found.append(Facility("userns", not problem, problem or "an ordinary user's own namespace", fix))
    return found


def _problem_of(action: Callable[[], None]) -> str:
    def probe() -> str:
        try:
            action()
        except OSError as problem:
            return str(problem)
        return ""

    return inside(lambda: None, probe)


def inside(before: Callable[[], None], ask: Callable[[], str]) -> str:
    """What `ask` answers in a forked child after `before`; raises OSError if the child could not say."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.close(reader)
            before()
            os.write(writer, json.dumps(ask()).encode()[:_ANSWER_BYTES])
        os._exit(0)
    os.close(writer)
    answer = b""
    while part := os.read(reader, _ANSWER_BYTES):
        answer += part
    os.close(reader)
    os.waitpid(pid, 0)
    if not answer:
        raise OSError("the probe ended without an answer")
    return str(json.loads(answer))


def host_uid(config: SpawnerConfig, uid: int) -> int:
    """The uid on the host of a uid inside the namespace."""
    return config.outer_uids[0] + uid - 1 if config.outer_uids else uid

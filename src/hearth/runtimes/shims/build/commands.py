"""Runs the user's build commands and sees to it that nothing of them is left."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping

from .disk import TooMuch, Watcher, disk_limit, measure
from .layout import BuildFailed, Layout

_SHELL_SIGNALS = 128
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def run_commands(commands: str, layout: Layout, environment: Mapping[str, str], disk_bytes: int) -> None:
    """Run `commands` by `bash -c` in the build area, output to ours; raises BuildFailed unless they end with 0.

    Everything they started is ended before this returns.
    """
    bash = shutil.which("bash", path=environment.get("PATH", ""))
    if bash is None:
        raise BuildFailed(
            "bash", "Build commands need bash, which is not installed on this server. Install the package bash."
        )
    excess: list[str] = []
    try:
        process = subprocess.Popen(
            [bash, "-c", commands],
            cwd=layout.build,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(error) from error

    def end(limit: str) -> None:
        excess.append(limit)
        end_all(process.pid)

    watcher = Watcher([layout.build, layout.home], disk_bytes, end)
    watcher.start()
    try:
        code = _wait(process)
    finally:
        watcher.stop()
        end_all(process.pid)
    if not excess:
        try:
            measure([layout.build, layout.home], disk_bytes)
        except TooMuch as limit:
            excess.append(str(limit))
    if excess:
        raise BuildFailed("disk", disk_message(excess[0]), code)
    if code != 0:
        raise BuildFailed("exit", exit_message(code, disk_bytes), code)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The commands' exit code as a shell would say it. As the sandbox's first process we also reap orphans."""
    if os.getpid() != 1:
        return _as_shell_code(process.wait())
    while True:
        pid, status = os.wait()
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return _as_shell_code(process.returncode)


def _as_shell_code(code: int) -> int:
    return code if code >= 0 else _SHELL_SIGNALS - code


def end_all(group: int) -> None:
    """End the commands' session and, inside a sandbox (we are its first process), everything else in it."""
    if os.getpid() == 1:
        _quietly_kill(-1)
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
    else:
        _quietly_kill(-group)


def _quietly_kill(target: int) -> None:
    try:
        os.kill(target, signal.SIGKILL)
    except ProcessLookupError:
        return


def _not_started(error: OSError) -> BuildFailed:
    if error.errno == errno.E2BIG:
        return BuildFailed(
            "environment",
            "The variables of this build are too large together (the system allows about 2 MB). "
            "Remove variables or put large values into files.",
        )
    return BuildFailed("exit", f"The build commands could not be started: {error.strerror}.")


def disk_message(limit: str) -> str:
    """What is said when a build holds too much; `limit` names what was exceeded."""
    return (
        f"Build exceeded {limit}. Use less, or let the operator of this server raise HEARTH_BUILD_DISK_MB "
        "(it counts the source, installed packages and caches together)."
    )


def exit_message(code: int, disk_bytes: int) -> str:
    """The contract's sentence about an exit code (functions-api 9.1), with what to do about the usual ones."""
    said = f"Build failed with exit code {code}."
    if code == _NOT_FOUND:
        return f"{said} A program named in the build commands is not installed for builds; the log names it."
    if code == _NOT_EXECUTABLE:
        return f"{said} A file named in the build commands is not executable; run it through its interpreter."
    if code == _SHELL_SIGNALS + signal.SIGXFSZ:
        return f"{said} A file grew too large. {disk_message(disk_limit(disk_bytes))}"
    if code == _SHELL_SIGNALS + signal.SIGKILL:
        return f"{said} A process was killed, most likely because the build's memory was used up."
    return f"{said} The log above shows what the build commands printed."

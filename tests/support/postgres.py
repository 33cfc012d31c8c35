"""A real PostgreSQL server for a test session: a cluster of its own on a free port, gone afterwards."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.leftovers import footprint

START_TIMEOUT_S = 30.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def postgres_programs() -> Path:
    """The folder of `initdb` and `postgres`, newest version first; skips the test where there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        pytest.skip("PostgreSQL is not installed (`make setup-test` installs it)")
    return folders[-1]


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server and yield its address up to the database's name: `postgresql://hearth@127.0.0.1:<port>`."""
    with cluster() as made:
        yield made.address


class Cluster:
    """A cluster in `folder` that can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, identity: dict[str, Any]) -> None:
        self.port = _free_port()
        self.address = f"postgresql://hearth@127.0.0.1:{self.port}"
        self._programs, self._folder, self._identity = programs, folder, identity
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 60,
            "shared_buffers": "32MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=ENVIRONMENT,
                **self._identity,
            )
        _wait_until_ready(self._programs, self._server, self.port, self._folder / "log")

    def kill(self) -> None:
        """SIGKILL to every process of the server, as when the machine loses its power."""
        assert self._server is not None
        members = footprint(self._server.pid).processes
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        self._server.wait()
        self._server = None
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(member.is_alive() for member in members):  # one that lives keeps the next start from its memory
            assert time.monotonic() < deadline, "a killed process of PostgreSQL lives on"
            time.sleep(0.01)

    def stop(self) -> None:
        """The fast shutdown: clients are cut off. Nothing happens if it does not run."""
        if self._server is None:
            return
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server = None


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster of its own.

    It runs without fsync, which only matters when the machine dies. As root it runs as another user, since it
    refuses root.
    """
    programs = postgres_programs()
    user = _server_user()
    folder = Path(tempfile.mkdtemp(prefix="hearth-postgres-", dir="/tmp"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    made = Cluster(programs, folder, identity)
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "hearth", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env=ENVIRONMENT,
            **identity,
        )
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _server_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(programs: Path, server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    ask = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "5"]
    while subprocess.run(ask, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")
        time.sleep(0.05)

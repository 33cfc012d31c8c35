"""A real ssh server for tests: sshd on loopback, with a key and a host key of its own."""

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import wait_for

SSHD, KEYGEN = "/usr/sbin/sshd", "/usr/bin/ssh-keygen"
START_S = 30.0


@dataclass(frozen=True)
class SshServer:
    """A running server: whoever has `private_key` may log in as `user`, who is whoever runs the tests."""

    port: int
    user: str
    private_key: str
    folder: Path


@contextmanager
def ssh_server(root: Path) -> Iterator[SshServer]:
    """Start sshd on a free port of loopback; it is ended by its own process afterwards.

    Root's privilege separation needs the folder /run/sshd, which Debian makes at boot.
    """
    folder = root / "sshd"
    folder.mkdir(mode=0o700)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\nLogLevel ERROR\n"
    )
    with (folder / "log").open("wb") as said:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=said)
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, START_S, "sshd")
        assert process.poll() is None, (folder / "log").read_text()
        yield SshServer(port, getpass.getuser(), (folder / "user").read_text(), folder)
    finally:
        process.terminate()
        process.wait(START_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

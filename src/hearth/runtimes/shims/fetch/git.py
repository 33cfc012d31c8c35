"""Runs the host's git: no terminal, no hooks, no configuration but ours, one protocol, bounded output.

Nothing is ever checked out: objects are received into a bare repository and read from there, so attributes, filters,
hooks and links of a hostile repository have nothing to act on.
"""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .layout import FetchFailed, Layout, Request

GIT = "/usr/bin/git"
SSH, KEYSCAN = "/usr/bin/ssh", "/usr/bin/ssh-keyscan"
_HOST_ALIAS = "git-host"
#: Bytes of an answer of git that are read; lists of references and files are far smaller.
OUTPUT_BYTES = 64 * 1024 * 1024
#: Seconds a connection may stay below `_SLOW_BYTES` a second before it is given up.
_SLOW_S = 30
_SLOW_BYTES = 500
_SAID_BYTES = 4_096

#: `safe`: a mirror belongs to another user than this sandbox's. `uploadpack`: a mirror is served by our own git, which
#: may give out what its owner did not think of allowing. Big files are streamed, not held in memory.
_CONFIG = f"""[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tbigFileThreshold = 8m
\tattributesFile = /dev/null
[safe]
\tdirectory = *
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = true
[fetch]
\tunpackLimit = 1
\trecurseSubmodules = false
\twriteCommitGraph = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[pack]
\tthreads = 1
\twindowMemory = 64m
[protocol]
\tversion = 2
[credential]
\thelper =
[http]
\tlowSpeedLimit = {_SLOW_BYTES}
\tlowSpeedTime = {_SLOW_S}
"""


class GitFailed(Exception):
    """A git command ended with an error; `said` is what it printed about it."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class OutputTooLong(Exception):
    """A git command printed more than is read of it."""


class Git:
    """One bare repository in `folder`, whose remote `origin` is at `address` and spoken to by one protocol."""

    def __init__(self, layout: Layout, folder: str, address: str, config: str) -> None:
        self.address = address
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": layout.private,
            "TMPDIR": layout.private,
            "GIT_DIR": folder,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": config,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": urllib.parse.urlsplit(address).scheme,
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_SSH_COMMAND": ssh_command(layout),
        }
        os.makedirs(folder, exist_ok=True)
        self.run("init", "--quiet", "--bare", "--template=")
        self.run("config", "remote.origin.url", address)

    def run(
        self, *arguments: str, send: bytes = b"", stdin: int | None = None, output_bytes: int = OUTPUT_BYTES
    ) -> bytes:
        """Run a command to its end and return what it printed; it reads `send`, or the file `stdin`.

        Raises GitFailed, OutputTooLong.
        """
        with tempfile.TemporaryFile(dir=self._environment["TMPDIR"]) as said:
            with tempfile.TemporaryFile(dir=os.path.dirname(self._environment["GIT_DIR"])) as asked:
                asked.write(send)
                asked.seek(0)
                process = self._start(arguments, asked.fileno() if stdin is None else stdin, said.fileno())
            assert process.stdout is not None
            with process.stdout as stdout:
                output = stdout.read(output_bytes + 1)
                if len(output) > output_bytes:
                    process.kill()
            code = process.wait()
            if len(output) > output_bytes:
                raise OutputTooLong(arguments[0])
            if code != 0:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES))
                raise GitFailed(said.read().decode("utf-8", "replace"))
        return output

    @contextmanager
    def objects(self) -> Iterator[subprocess.Popen[bytes]]:
        """A `cat-file --batch` to ask for one object after the other."""
        process = subprocess.Popen(
            [GIT, "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            cwd="/",
        )
        try:
            yield process
        finally:
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()
            process.kill()
            process.wait()

    def _start(self, arguments: Sequence[str], stdin: int, stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [GIT, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, env=self._environment, cwd="/"
        )


def write_config(layout: Layout, request: Request, address: str) -> str:
    """Write git's configuration for this fetch and return its path. `address` is where git finds the source.

    A host that is found at another address than its own is still asked by its name. A password goes into a header for
    the source alone, or for its host if submodules there share it; and then no redirect is followed: git would take the
    header along.
    """
    text = _CONFIG + f"\tfollowRedirects = {'false' if request.password else 'initial'}\n"
    there = urllib.parse.urlsplit(address)
    if request.url and address != request.url:
        text += f'[http "{there.scheme}://{there.netloc}/"]\n'
        text += f"\textraHeader = Host: {urllib.parse.urlsplit(request.url).netloc}\n"
    if request.password:
        # After the section above: git adds the headers of one that fits at least as well (git-config(1), http.<url>.*).
        place = f"{there.scheme}://{there.netloc}/" if request.shares_access else address
        text += f'[http "{place}"]\n'
        pair = base64.b64encode(f"{request.username}:{request.password}".encode()).decode()
        text += f"\textraHeader = Authorization: Basic {pair}\n"
    path = os.path.join(layout.private, "gitconfig")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def ssh_command(layout: Layout) -> str:
    """How git calls ssh: with one key and the host keys that are known, and nothing of anybody's configuration.

    Host keys are looked up by one made-up name, because the host may be found at another address than its own.
    """
    options = {
        "BatchMode": "yes",
        "CheckHostIP": "no",
        "ConnectTimeout": str(_SLOW_S),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": _HOST_ALIAS,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": os.path.join(layout.private, "ssh_key"),
        "LogLevel": "ERROR",
        "ServerAliveCountMax": "2",
        "ServerAliveInterval": "15",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": os.path.join(layout.private, "ssh_known_hosts"),
    }
    return " ".join([SSH, "-F", "/dev/null", *(f"-o {name}={value}" for name, value in options.items())])


def write_keys(layout: Layout, request: Request) -> None:
    """Write the deploy key and the known host keys where `ssh_command` looks for them: in memory only."""
    key = request.private_key.replace("\r\n", "\n").strip() + "\n"
    known = "".join(f"{_HOST_ALIAS} {line}\n" for line in request.known_hosts.splitlines() if line.strip())
    for name, text in (("ssh_key", key), ("ssh_known_hosts", known)):
        path = os.path.join(layout.private, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)


def host_keys(host: str, port: int) -> str:
    """The keys an ssh host shows now, a line `type key` each; `""` if it does not answer."""
    done = subprocess.run(
        [KEYSCAN, "-T", "10", "-p", str(port), "--", host],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        check=False,
    )
    lines = [line.split(" ") for line in done.stdout.decode("ascii", "replace").splitlines()[:20]]
    return "\n".join(f"{line[1]} {line[2]}" for line in lines if len(line) == 3 and not line[0].startswith("#"))


def require_ssh() -> None:
    """Raises FetchFailed where the host has no ssh."""
    if not os.access(SSH, os.X_OK) or not os.access(KEYSCAN, os.X_OK):
        raise FetchFailed(
            "Repositories at ssh addresses need the program ssh, which this server does not have. Its operator can "
            "install the package openssh-client; or use the https address with a token."
        )


def require_git() -> None:
    """Raises FetchFailed where the host has no git."""
    if not os.access(GIT, os.X_OK):
        raise FetchFailed(
            "Sources from git need the program git, which this server does not have. "
            "Its operator can install the package git; until then upload the code."
        )


def explain(said: str, request: Request) -> FetchFailed:
    """What a failure of git means for the user."""
    lower = said.lower()
    host = urllib.parse.urlsplit(request.url).netloc
    refused = ("could not read username", "authentication failed", "error: 401", "error: 403", "permission denied")
    if "host key verification failed" in lower:
        return FetchFailed(
            f"The host {host} shows another ssh key than the one this installation knows. If the host's key was "
            "changed on purpose, make a new installation; otherwise somebody may stand in between."
        )
    if any(text in lower for text in refused) and request.is_connected:
        return FetchFailed(
            f"The repository {request.place} does not exist or the installation's credentials do not open it. Check "
            "that the token or deploy key is still valid and may read this repository."
        )
    if any(text in lower for text in refused):
        return FetchFailed(
            f"The repository {request.place} does not exist or is not public. "
            "Check owner and repository; private repositories are not supported here."
        )
    if any(
        text in lower
        for text in ("not found", "error: 404", "does not appear to be a git", "not a git repo", "no such file")
    ):
        return FetchFailed(f"The repository {request.place} does not exist. Check owner and repository.")
    if "could not resolve host" in lower and request.is_connected:
        return FetchFailed(f"The git host {host} cannot be found from this server. Check the installation's address.")
    if "could not resolve host" in lower:
        return FetchFailed(
            f"The git host {host} cannot be found from this server. Check that the machine has internet access; "
            "without it, the operator can set HEARTH_TEMPLATES_URL to a mirror, and the template "
            'hearth/starters (root directory "node" or "python") is always there.'
        )
    if any(
        text in lower
        for text in (
            "failed to connect",
            "connection refused",
            "couldn't connect",
            "reset by peer",
            "connection closed by",
        )
    ):
        return FetchFailed(
            f"The git host {host} cannot be reached. If it is in a private network, the operator of this server has "
            "to allow it with HEARTH_EGRESS_ALLOW=host:port; otherwise try again later."
        )
    if "timed out" in lower or "too slow" in lower or "operation too slow" in lower:
        return FetchFailed(f"The git host {host} answers too slowly. Deploy again later.")
    if "dumb http" in lower or "shallow" in lower:
        return FetchFailed(f"The git host {host} does not serve git's smart HTTP protocol, which is needed here.")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
    shown = "".join(char for char in told if char.isprintable())[:300]
    if request.password:
        shown = shown.replace(request.password, "***")
    return FetchFailed(f"The repository {request.place} could not be fetched. Git said: {shown or 'nothing'}")

"""A Docker daemon of the tests' own, with an image made of this machine's programs: no registry is asked. As root."""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.engine import Engine, EngineError
from tests.support.leftovers import mounts_below

IMAGE = "hearth-test/python:1"
SERVER_IMAGE = "hearth-test/openruntimes:1"
"""The same files and a server of its own, as images of Open Runtimes have it (`openruntimes`, beside this file)."""
READY_WAIT_S, STOP_WAIT_S = 60.0, 30.0
PROGRAMS = (
    *(
        "python3",
        "env",
        "sh",
        "dash",
        "bash",
        "cat",
        "sleep",
        "true",
        "id",
        "ls",
        "cp",
        "mkdir",
        "rm",
        "ln",
        "head",
        "tail",
    ),
    *("tar", "gzip", "touch", "chmod", "dd", "yes", "seq", "wc", "find", "grep", "sed", "setsid", "nohup", "truncate"),
)
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OF_THE_IMAGE": "yes"}
TOP_FOLDERS = ("bin", "etc", "lib", "lib64", "tmp", "usr", "var")
LEFT_OUT = {"__pycache__", "test", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "distutils"}


def why_not() -> str:
    """What is missing here for a daemon; `""` when nothing is."""
    missing = [name for name in ("dockerd", "containerd") if shutil.which(name, path=_PATH) is None]
    return f"{', '.join(missing)} not installed" if missing else ""


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoDaemon(Exception):
    """No daemon can run on this machine; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon that has `IMAGE`."""

    socket: str

    @property
    def engine(self) -> Engine:
        return Engine(self.socket)


@contextlib.contextmanager
def daemon() -> Iterator[Daemon]:
    """Start a daemon without a network, load the image, and leave nothing of it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hearth-docker-"))
    command = ["dockerd", "--host", f"unix://{folder}/docker.sock", "--data-root", f"{folder}/data"]
    command += ["--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid", "--bridge", "none"]
    command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={"PATH": _PATH})
    made = Daemon(f"{folder}/docker.sock")
    left: list[str] = []
    try:
        deadline = time.monotonic() + READY_WAIT_S
        while True:
            try:
                made.engine.version()
                break
            except EngineError:
                said = (folder / "log").read_text(errors="replace")[-2000:]
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NoDaemon(f"dockerd does not run here: {said}") from None
                time.sleep(0.1)
        load_image(made)
        os.sync()  # tests look at the free space of the disk
        yield made
        deadline = time.monotonic() + STOP_WAIT_S
        while (left := made.engine.names("hearth.server")) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(STOP_WAIT_S)
        log.close()
        for mount in reversed(mounts_below(folder)):
            with contextlib.suppress(OSError):
                syscalls.umount(mount)
        shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"containers are left: {left}"


def load_image(made: Daemon, image: str = IMAGE) -> None:
    """Give the daemon `IMAGE` or `SERVER_IMAGE`, as `docker import` does."""
    query = urlencode({"fromSrc": "-", "repo": image.partition(":")[0], "tag": image.partition(":")[2]})
    changes = urlencode([("changes", f"ENV {name}={value}") for name, value in ENVIRONMENT.items()])
    answer = made.engine.call("POST", f"/images/create?{query}&{changes}", archive(with_server=image == SERVER_IMAGE))
    assert "error" not in answer, answer
    assert made.engine.has_image(image)


def archive(*, with_server: bool = False) -> bytes:
    """The image's files: a few programs, the libraries they need, and Python's."""
    programs = {name: path for name in PROGRAMS if (path := shutil.which(name, path="/usr/bin:/bin")) is not None}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for folder, mode in (("usr", 0o755), ("usr/bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("var", 0o755)):
            item = tarfile.TarInfo(folder)
            item.type, item.mode = tarfile.DIRTYPE, mode
            tar.addfile(item)
        for name, path in programs.items():
            tar.add(os.path.realpath(path), f"usr/bin/{name}")
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        tar.addfile(link)
        version = subprocess.run(["/usr/bin/python3", "-c", _WHERE], capture_output=True, text=True, check=True)
        library = version.stdout.strip()
        modules = [str(path) for path in Path(library, "lib-dynload").glob("*.so")]
        for path in sorted(_libraries([*map(os.path.realpath, programs.values()), *modules])):
            tar.add(os.path.realpath(path), path.lstrip("/"))
        tar.add(library, library.lstrip("/"), filter=_is_wanted)
        if with_server:
            files = Path(__file__).parent / "openruntimes"
            tar.add(files / "helpers", "usr/local/server/helpers")
            tar.add(files / "server.py", "usr/local/server/src/server.py")
    return buffer.getvalue()


_WHERE = "import sysconfig; print(sysconfig.get_path('stdlib'))"


def _libraries(files: Sequence[str]) -> set[str]:
    done = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False)
    found = set()
    for line in done.stdout.splitlines():
        words = line.split()
        found.update(word for word in words if word.startswith("/") and not word.endswith(":"))
    return found


def _is_wanted(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(item.name).name
    return None if name in LEFT_OUT or name.startswith("config-3") else item

"""The image's own server: what it finds when it starts, its start, its output and its end.

Contract: runtime-contract 6 and 7.

Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tarfile
import threading
import time

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FOLDER = "/usr/local/server"
COMMAND = ("helpers/start.sh", "bash helpers/server.sh")
#: Where the instance's code is, read-only; the server wants it elsewhere, and may write there.
CODE = "/opt/hearth/code"
CODE_FOLDER, LOGS_FOLDER, TELEMETRY_FOLDER = "/mnt/code", "/mnt/logs", "/mnt/telemetry"
ARCHIVE = f"{CODE_FOLDER}/code.tar.gz"
#: Tells the start that the code is unpacked already, where the image knows it.
MARKER = ".extracted"
#: What the start of Python's image writes into, so that a link to what is read-only will not do.
WRITTEN_AT_START = "runtime-env"
SETTINGS = ".open-runtimes"
PORT = 3000
#: What every server says when it is up, now and then after the first request has come.
STARTED = b"HTTP server successfully started!"
POLL_S = 0.01
#: How long a signal may take that is to end this process; the first one of a sandbox is not ended by most.
UNSIGNALED_S = 0.5
TAIL_BYTES = 8 * 1024
READ_BYTES = 64 * 1024
_HELPER_MAX_BYTES = 256 * 1024


class NoServer(Exception):
    """The image's server cannot serve this code; the text says why, for the author of the function."""


def lay_out(code: str, entrypoint: str) -> None:
    """Put the code where the image's start looks for it: as links where the image knows them, else as an archive."""
    for folder in (CODE_FOLDER, LOGS_FOLDER, TELEMETRY_FOLDER, f"{FOLDER}/src/function"):
        os.makedirs(folder, exist_ok=True)
    names = os.listdir(code)
    settings = f"OPEN_RUNTIMES_ENTRYPOINT={entrypoint}\n"
    if WRITTEN_AT_START in names or not _knows_marker():
        with tarfile.open(ARCHIVE, "w:gz", compresslevel=1) as archive:
            for name in names:
                archive.add(f"{code}/{name}", name)
            if SETTINGS not in names:
                _write(f"{TELEMETRY_FOLDER}/{SETTINGS}", settings)
                archive.add(f"{TELEMETRY_FOLDER}/{SETTINGS}", SETTINGS)
        return
    for name in names:
        os.symlink(f"{code}/{name}", f"{CODE_FOLDER}/{name}")
    if SETTINGS not in names:
        _write(f"{CODE_FOLDER}/{SETTINGS}", settings)
    _write(f"{CODE_FOLDER}/{MARKER}", "")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _knows_marker() -> bool:
    """Whether the image's start looks for `MARKER`; older ones know archives only."""
    for folder, _, names in os.walk(f"{FOLDER}/helpers"):
        for name in names:
            if name.endswith(".sh"):
                with open(f"{folder}/{name}", "rb") as file:
                    if MARKER.encode() in file.read(_HELPER_MAX_BYTES):
                        return True
    return False


class Server:
    """The running server of an image. `wait_up` first; `ended` is set once its process has ended and all is read."""

    def __init__(self, environment: Mapping[str, str], is_busy: Callable[[], bool]) -> None:
        """Start it; `is_busy` tells whether a request runs. Raises NoServer where the image has no such start."""
        if not os.path.isfile(f"{FOLDER}/{COMMAND[0]}"):
            raise NoServer(
                f"The image has no {FOLDER}/{COMMAND[0]}: it is none of Open Runtimes. "
                "Name its interpreter in HEARTH_DOCKER_IMAGES instead of http."
            )
        self.ended = threading.Event()
        self._tail = bytearray()
        self._is_up = False
        self._is_busy = is_busy
        self._lock = threading.Lock()
        try:
            self._process = subprocess.Popen(
                ["bash", *COMMAND],
                cwd=FOLDER,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as problem:
            raise NoServer(f"The image's server cannot be started by bash: {problem.strerror}.") from problem
        threading.Thread(target=self._follow, daemon=True).start()

    def wait_up(self) -> None:
        """Wait until it listens; the host bounds how long. Raises NoServer when it ends before."""
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                    break
            if self.ended.wait(POLL_S):
                how = f"code {self.code}" if self.code >= 0 else f"signal {-self.code}"
                text = f"The image's server ended with {how} before it listened on port {PORT}."
                raise NoServer(f"{text}\n{self._tail.decode(errors='replace')}".rstrip())
        with self._lock:
            self._is_up = True
            self._tail.clear()  # what it says of its start is nobody's log
        if os.path.exists(ARCHIVE):
            os.unlink(ARCHIVE)  # it is unpacked, and it is memory

    @property
    def code(self) -> int:
        """How it ended: an exit code, or a negative signal; shells say signals by codes above 128."""
        code = self._process.returncode
        return code if not 128 < code < 128 + signal.NSIG else 128 - code

    def end_like_it(self) -> None:
        """End this process as the server has ended, so that the host hears the true reason."""
        if self.code < 0:
            os.kill(os.getpid(), -self.code)
            time.sleep(UNSIGNALED_S)
        os._exit(self.code if self.code >= 0 else 128 - self.code)

    def _follow(self) -> None:
        """Pass on what it writes once it is up: it is output of the one request that runs, if there is one."""
        output = self._process.stdout
        assert output is not None
        while data := os.read(output.fileno(), READ_BYTES):
            with self._lock:
                self._tail += data
                del self._tail[:-TAIL_BYTES]
                if self._is_up and self._is_busy() and STARTED not in data:
                    _pass_on(data)
        self._process.wait()
        self.ended.set()


def _pass_on(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]

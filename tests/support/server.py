"""The real server for tests: the command `hearth serve` in a process of its own, killed, restarted, inspected.

`running_server` is the usual way in; it ends with the assertion that nothing of the server is left.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from tests.support.leftovers import Footprint, footprint, mounts_below, processes_using
from tests.support.uids import SERVER_RANGE

HEARTH = Path(sys.executable).with_name("hearth")
READY_WAIT_S = 60.0
STOP_WAIT_S = 60.0
GONE_WAIT_S = 15.0
POLL_S = 0.05


def free_port() -> int:
    """A TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Poll until `condition` is true; AssertionError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(POLL_S)


class Server:
    """One data folder and the server on it, through any number of starts. Not thread-safe."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        given: Sequence[Path] = (),
        program: Sequence[str] = (),
    ) -> None:
        """`folder` gets the data folder and the log; `settings` are variables of its environment.

        `prefix` goes before the command; `given` are control groups that were there for it before;
        `program` stands in for `hearth`.
        """
        self.prefix = list(prefix)
        self.program = list(program) or [str(HEARTH)]
        self._given = {f"control group {path}" for path in given}
        self.data_dir = folder / "data"
        self.log_path = folder / "server.log"
        self.port = free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
        self.environment |= {"HEARTH_ABUSE": "off", "HEARTH_UID_RANGE": SERVER_RANGE, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: list[Footprint] = []  # of the process that runs now
        self._ended: list[Footprint] = []  # of those before it

    @property
    def argv(self) -> list[str]:
        """The whole command."""
        return [*self.prefix, *self.program, "serve", "--data-dir", str(self.data_dir), "--port", str(self.port)]

    @property
    def endpoint(self) -> str:
        """The API's base, as clients take it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def credentials(self) -> dict[str, str]:
        """What the server wrote for its owner."""
        document = json.loads((self.data_dir / "credentials.json").read_text())
        assert isinstance(document, dict)
        return document

    @property
    def headers(self) -> dict[str, str]:
        """Request headers of the owner's API key."""
        owner = self.credentials
        return {"x-appwrite-project": owner["projectId"], "x-appwrite-key": owner["apiKey"]}

    @property
    def pid(self) -> int:
        """The main process; AssertionError when none runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything the server has printed, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        """An HTTP client of the owner; the caller closes it."""
        return httpx.Client(base_url=self.endpoint, headers=self.headers, timeout=timeout_s, trust_env=False)

    def start(self) -> None:
        """Start it and wait until executions can run."""
        assert self._process is None, "the server runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        wait_for(self._is_ready, READY_WAIT_S, f"the server to be ready; it said:\n{self.log[-4000:]}")

    def note_footprint(self) -> Footprint:
        """Remember which processes and control groups the server has now; `assert_nothing_left` looks for them."""
        assert self._process is not None
        seen = footprint(self._process.pid)
        self._seen.append(seen)
        return seen

    def kill(self) -> None:
        """SIGKILL to the server's main process alone, as an out-of-memory killer would."""
        assert self._process is not None
        self.note_footprint()
        self._process.kill()
        self._process.wait(STOP_WAIT_S)
        self._forget_process()

    def wait_for_end(self, timeout_s: float) -> int:
        """Wait for a server that ends by itself, because a part of it is lost, and return the exit code."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server goes on after {timeout_s:.0f} s; it said:\n{self.log[-4000:]}") from None
        self._forget_process()
        return code

    def stop(self) -> int:
        """SIGTERM, wait, and return the exit code. A server that does not end is killed and fails the test."""
        assert self._process is not None
        self.note_footprint()
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the server ignored SIGTERM; it said:\n{self.log[-4000:]}") from None
        finally:
            self._forget_process()

    @property
    def is_running(self) -> bool:
        """Whether it was started and neither stopped nor killed."""
        return self._process is not None

    def leftovers(self) -> list[str]:
        """What is left of the servers that ran before, besides what the running one uses itself."""
        lines = {line for seen in self._ended for line in seen.remains()} - self._given
        if self._process is not None:
            # A control group of the same name may have been made anew.
            return sorted(lines - set(footprint(self._process.pid).remains()))
        return sorted(lines | set(processes_using(self.data_dir)) | set(mounts_below(self.data_dir)))

    def assert_nothing_left(self) -> None:
        """No process, control group or mount of this data folder, after a bounded wait for the kernel to clean up."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.leftovers(), GONE_WAIT_S, "everything to be gone")
        assert self.leftovers() == []

    def _forget_process(self) -> None:
        self._process = None
        self._ended += self._seen
        self._seen = []

    def _is_ready(self) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            self._forget_process()
            raise AssertionError(f"the server ended with exit code {code}; it said:\n{self.log[-4000:]}")
        try:
            answer = httpx.get(f"{self.endpoint}/health/version", timeout=2.0, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


@contextlib.contextmanager
def server_folder() -> Iterator[Path]:
    """A temporary folder that the server's own user can reach, unlike pytest's, which only root can enter."""
    folder = Path(tempfile.mkdtemp(prefix="hearth-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def running_server(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A ready server on a new data folder; at the end it has to exit with 0 on SIGTERM and leave nothing behind."""
    with server_folder() as folder:
        server = Server(folder, settings)
        server.start()
        try:
            yield server
        finally:
            code = server.stop() if server.is_running else 0
        assert code == 0, f"exit code {code}; the server said:\n{server.log[-4000:]}"
        server.assert_nothing_left()

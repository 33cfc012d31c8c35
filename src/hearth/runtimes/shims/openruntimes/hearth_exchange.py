"""One request to the image's own server: its headers, its answer, and its logs, which are files.

Contract: runtime-contract 4 and 6.

Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import base64
import http.client
import math
import os
import select
import socket
import time
import urllib.parse

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from typing import Any

    from hearth.runtimes.shims.openruntimes.hearth_server import LOGS_FOLDER, PORT
    from hearth.runtimes.shims.python import hearth_channel as channel
else:
    import hearth_channel as channel
    from hearth_server import LOGS_FOLDER, PORT

PIECE_BYTES = 256 * 1024
#: How often the log files are looked at while a request runs: soon at first, so that a short one loses nothing.
LOOK_FIRST_S, LOOK_LATER_S = 0.02, 0.2
#: The last look at them before the host's own clock ends an instance that does not answer.
LAST_LOOK_S = 0.05
TIMED_OUT = b"Execution timed out.\n"
INTERNAL = "x-open-runtimes-"
#: Of the connection between the two, or made anew by whoever answers the caller.
OURS = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade", "content-length")
)
NOT_PASSED_ON = OURS | {"date", "server"}


class Broken(Exception):
    """The server gave no answer that is one; the text says what it did."""


class LogFiles:
    """The two log files of one request, sent on as they grow."""

    def __init__(self, id: int, name: str) -> None:
        self._id = id
        self._read = {"log": 0, "error": 0}
        self._rest = {"log": b"", "error": b""}
        self._name = name

    def use(self, name: str) -> None:
        """The server has chosen another name."""
        if name and "/" not in name and name != self._name:
            self.remove()
            self._name = name
            self._read = {"log": 0, "error": 0}

    def frames(self, *, last: bool = False) -> bytes:
        """Frames of the whole lines that are new, of at most a few pieces unless it is the `last` look."""
        out: list[bytes] = []
        for stream, path in self._paths():
            for _ in range(1 << 20 if last else 4):
                data = self._more(stream, path)
                lines, newline, rest = (self._rest[stream] + data).rpartition(b"\n")
                self._rest[stream] = rest
                if len(rest) >= PIECE_BYTES or (last and not data and rest):
                    lines, newline, self._rest[stream] = lines + newline + rest, b"", b""
                if lines or newline:
                    frame = channel.frame({"type": "log", "id": self._id, "stream": stream}, lines + newline)
                    if last and len(out) >= 4:
                        channel.write(b"".join(out))
                        out.clear()
                    out.append(frame)
                if not data:
                    break
        return b"".join(out)

    def remove(self) -> None:
        """Remove the files: they are memory."""
        for _, path in self._paths():
            try:
                os.unlink(path)
            except OSError:
                continue

    def _paths(self) -> tuple[tuple[str, str], ...]:
        return ("log", f"{LOGS_FOLDER}/{self._name}_logs.log"), ("error", f"{LOGS_FOLDER}/{self._name}_errors.log")

    def _more(self, stream: str, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                file.seek(self._read[stream])
                data = file.read(PIECE_BYTES)
        except OSError:
            return b""
        self._read[stream] += len(data)
        return data


class Exchange:
    """One request on its way. `run` blocks; `cancel` may be called from another thread meanwhile."""

    def __init__(self, request: dict[str, Any], body: bytes, secret: str) -> None:
        self._request = request
        self._id: int = request["id"]
        self._body = body
        self._secret = secret
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT)
        self._is_canceled = False
        self.has_begun = False
        """Whether the head of an answer has been sent without all of its body."""
        self._logs: LogFiles | None = None
        self._log_id = os.urandom(10).hex() if request["logging"] else ""
        if self._log_id:
            self._logs = LogFiles(self._id, self._log_id)

    def cancel(self) -> None:
        """Nobody waits for it any more: `run` returns soon, and sends nothing more."""
        self._is_canceled = True
        sock = self._connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def run(self) -> None:
        """Ask the server, and send on what it logs and answers. Raises Broken; see `has_begun` then."""
        end = time.monotonic() + self._request["timeout"]
        try:
            self._send()
            if self._wait(end):
                self._answer(end)
            elif not self._is_canceled:
                self._time_out()
        except (OSError, http.client.HTTPException) as problem:
            if self._is_canceled:
                return
            if self._logs is not None:
                channel.write(self._logs.frames(last=True))
            raise Broken(f"{type(problem).__name__}: {problem}".rstrip(": ")) from problem
        finally:
            self._connection.close()
            if self._logs is not None:
                self._logs.remove()

    def fail(self, text: str) -> None:
        """Answer in the server's place, which has given no answer."""
        if not self._is_canceled:
            self._respond(500, {}, b"", _error(self._id, f"{text}\n".encode()))

    def _send(self) -> None:
        request = self._request
        headers = {name: value for name, value in request["headers"].items() if name.lower() not in OURS}
        headers["x-open-runtimes-secret"] = self._secret
        headers["x-open-runtimes-timeout"] = str(max(1, math.ceil(request["timeout"])))
        headers["x-open-runtimes-logging"] = "enabled" if self._log_id else "disabled"
        if self._log_id:
            headers["x-open-runtimes-log-id"] = self._log_id
        if "authorization" not in headers:
            known = base64.b64encode(f"opr:{self._secret}".encode()).decode()
            headers["authorization"] = f"Basic {known}"
        path = request["path"] if request["path"].startswith("/") else f"/{request['path']}"
        connection = self._connection
        connection.putrequest(request["method"], path, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.encode())
        if self._body or request["method"] not in ("GET", "HEAD", "OPTIONS"):
            connection.putheader("content-length", str(len(self._body)))
        connection.endheaders(self._body or None)

    def _wait(self, end: float) -> bool:
        """Wait for the answer's first bytes, sending on what is logged; False when the time is over."""
        poll = select.poll()
        poll.register(self._connection.sock, select.POLLIN)
        pause_s = LOOK_FIRST_S
        while True:
            left_s = end - time.monotonic()
            until_last_s = left_s - LAST_LOOK_S
            wait_s = min(pause_s, until_last_s if until_last_s > 0 else max(0.0, left_s))
            if poll.poll(wait_s * 1000):
                return True
            if self._logs is not None and (frames := self._logs.frames()):
                channel.write(frames)
            if time.monotonic() >= end:
                return False
            pause_s = min(2 * pause_s, LOOK_LATER_S)

    def _answer(self, end: float) -> None:
        connection = self._connection
        connection.sock.settimeout(None)
        response = connection.getresponse()
        if self._is_canceled:
            return
        headers: dict[str, Any] = {}
        for given, value in response.getheaders():
            name = given.lower()
            if name.startswith(INTERNAL) or name in NOT_PASSED_ON:
                continue
            known = headers.get(name)
            headers[name] = value if known is None else [*(known if isinstance(known, list) else [known]), value]
        first = response.read(PIECE_BYTES)
        rest = response.read(PIECE_BYTES) if len(first) == PIECE_BYTES else b""
        # its own clock and ours agree to a few milliseconds: what it answers then is its word for a timeout
        timed_out = response.status == 500 and not first and time.monotonic() >= end - LAST_LOOK_S
        if rest:
            header = {"type": "response", "id": self._id, "status": response.status, "headers": headers, "more": True}
            self.has_begun = True
            channel.write(channel.frame(header, first))
            while following := response.read(PIECE_BYTES):
                channel.write(channel.frame({"type": "body", "id": self._id, "more": True}, rest))
                rest = following
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        before = self._last_logs(response.headers.get(f"{INTERNAL}log-id", ""))
        if rest:
            channel.write(before + channel.frame({"type": "body", "id": self._id, "more": False}, rest))
        else:
            self._respond(response.status, headers, first, before, timed_out=timed_out)

    def _time_out(self) -> None:
        before = self._last_logs("")
        self._respond(500, {}, b"", before + _error(self._id, TIMED_OUT), timed_out=True)

    def _last_logs(self, name: str) -> bytes:
        if self._logs is None:
            return b""
        self._logs.use(urllib.parse.unquote(name))
        return self._logs.frames(last=True)

    def _respond(
        self, status: int, headers: dict[str, Any], body: bytes, before: bytes, *, timed_out: bool = False
    ) -> None:
        header = {"type": "response", "id": self._id, "status": status, "headers": headers, "timed_out": timed_out}
        channel.send_response(header, body, before)


def _error(id: int, text: bytes) -> bytes:
    return channel.frame({"type": "log", "id": id, "stream": "error"}, text)

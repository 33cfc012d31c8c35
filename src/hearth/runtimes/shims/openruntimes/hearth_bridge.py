"""Lets an image with a server of its own be an instance: the instance protocol to the host, HTTP to the server.

The server listens on port 3000 of the sandbox's own loopback; nobody outside can reach it. It is started when the code
is there, with a secret of this instance's, and each request is a connection of its own, in a thread of its own.
Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import os
import threading
import time

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from typing import Any

    from hearth.runtimes.shims.openruntimes.hearth_exchange import Broken, Exchange
    from hearth.runtimes.shims.openruntimes.hearth_server import CODE, NoServer, Server, lay_out
    from hearth.runtimes.shims.python import hearth_channel as channel
else:
    import hearth_channel as channel
    from hearth_exchange import Broken, Exchange
    from hearth_server import CODE, NoServer, Server, lay_out

#: How long a request whose connection broke waits for the server's end to be known, which is the better reason.
END_WAIT_S = 1.0


class Bridge:
    """Takes the host's frames; every method but the last two is called by the one thread that reads them."""

    def __init__(self, takes_many: bool) -> None:
        self._takes_many = takes_many
        self._secret = os.urandom(16).hex()
        self._server: Server | None = None
        self._running: dict[int, tuple[Exchange, threading.Thread]] = {}
        self._coming: dict[int, tuple[dict[str, Any], list[bytes]]] = {}

    def take(self, header: dict[str, Any], body: bytes) -> None:
        """Act on one frame."""
        kind, id = header["type"], header.get("id", 0)
        if kind == "assign":
            self._assign(header)
        elif kind == "request":
            if header["more"]:
                self._coming[id] = (header, [body])
            else:
                self._begin(header, body)
        elif kind == "body" and id in self._coming:
            request, pieces = self._coming[id]
            pieces.append(body)
            if not header["more"]:
                del self._coming[id]
                self._begin(request, b"".join(pieces))
        elif kind == "cancel":
            self._coming.pop(id, None)
            if id in self._running:
                self._running[id][0].cancel()

    def _assign(self, assignment: dict[str, Any]) -> None:
        environment = {
            **os.environ,
            **assignment["environment"],
            "OPEN_RUNTIMES_SECRET": self._secret,
            "OPEN_RUNTIMES_ENTRYPOINT": assignment["entrypoint"],
        }
        try:
            lay_out(CODE, assignment["entrypoint"])
            self._server = server = Server(environment, lambda: bool(self._running))
            server.wait_up()
        except (NoServer, OSError) as problem:
            channel.write(channel.frame({"type": "load_failed", "error": str(problem)}))
            return
        threading.Thread(target=self._end_with, args=(server,), daemon=True).start()
        concurrency = assignment["concurrency"] if self._takes_many else 1
        channel.write(channel.frame({"type": "loaded", "concurrency": concurrency}))

    def _begin(self, request: dict[str, Any], body: bytes) -> None:
        exchange = Exchange(request, body, self._secret)
        thread = threading.Thread(target=self._run, args=(request["id"], exchange), daemon=True)
        self._running[request["id"]] = exchange, thread
        thread.start()

    def _run(self, id: int, exchange: Exchange) -> None:
        try:
            exchange.run()
        except Broken as problem:
            server = self._server
            if server is None or not server.ended.wait(END_WAIT_S):
                text = f"The image's server broke the connection off ({problem})."
                if exchange.has_begun:  # no other answer is possible: this instance ends, and says why
                    os.write(1, f"{text}\n".encode())
                    os._exit(1)
                exchange.fail(text)
        except ValueError as problem:  # of http.client: a method or path that HTTP has no way to write
            exchange.fail(f"The request cannot be handed to the image's server: {problem}.")
        finally:
            self._running.pop(id, None)

    def _end_with(self, server: Server) -> None:
        """End as the server does, once the requests that ran in it have sent on what they had logged."""
        server.ended.wait()
        deadline = time.monotonic() + END_WAIT_S
        for _, thread in list(self._running.values()):
            thread.join(max(0.0, deadline - time.monotonic()))
        server.end_like_it()


def main(*, takes_many: bool) -> None:
    """Serve the host until it closes the channel."""
    os.set_inheritable(channel.CHANNEL, False)
    bridge = Bridge(takes_many)
    reader = channel.Reader()
    channel.write(channel.frame({"type": "ready", "pid": os.getpid(), "version": ""}))
    try:
        while True:
            while (taken := reader.take()) is not None:
                bridge.take(*taken)
            reader.read()
    except channel.HostGone:
        os._exit(0)

"""Sending messages with descriptors from an event loop without ever blocking it."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence


class Outbox:
    """An ordered queue in front of a non-blocking SOCK_SEQPACKET socket, empty most of the time.

    Two hundred starts at once fill the socket's buffer while the other side is busy with the first ones; the rest
    waits here. Descriptors of a waiting message are duplicates, so the caller may close its own at once.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._waiting: deque[tuple[bytes, list[int]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send now, or as soon as the socket takes it. Raises OSError when the other side is gone."""
        if not self._waiting:
            try:
                socket.send_fds(self._connection, [data], list(descriptors), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            else:
                return
        self._waiting.append((data, [os.dup(fd) for fd in descriptors]))
        if len(self._waiting) == 1:
            self._loop.add_writer(self._connection.fileno(), self._flush)

    def close(self) -> None:
        """Drop what is waiting; the socket is the owner's to close, after this."""
        if self._waiting:
            self._loop.remove_writer(self._connection.fileno())
        for _, descriptors in self._waiting:
            for fd in descriptors:
                os.close(fd)
        self._waiting.clear()

    def _flush(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                socket.send_fds(self._connection, [data], descriptors, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:  # gone: the reader of this socket meets its end and says so
                self.close()
                return
            self._waiting.popleft()
            for fd in descriptors:
                os.close(fd)
        self._loop.remove_writer(self._connection.fileno())

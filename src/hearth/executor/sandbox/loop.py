"""The spawner's event loop: waits for descriptors, and carries messages between the API process and the spawner."""

import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hearth.executor.sandbox import messages

OUTGOING_MAX = 20_000
"""Messages the API process may leave unread before it counts as gone."""
RECEIVE_PER_WAKE = 64


class Loop:
    """One per spawner, in its only thread. `open` is False once the API process is gone."""

    def __init__(self, control: socket.socket, on_message: Callable[[bytes, list[int], int], None]) -> None:
        """`on_message` gets what the API process sends: bytes, descriptors and the flags of its receipt.

        The descriptors are closed as soon as it returns.
        """
        self.open = True
        self._control = control
        self._on_message = on_message
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._outgoing: deque[tuple[bytes, Sequence[int]]] = deque()
        self.watch(control.fileno(), self._on_control)

    def turn(self, timeout_s: float) -> None:
        """Wait for what happens, for `timeout_s` seconds at most (negative = as long as it takes), and handle it."""
        for fd, _ in self._poll.poll(timeout_s):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler()

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever a descriptor can be read, until `unwatch`."""
        self._handlers[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor and close it."""
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._poll.unregister(fd)
        with contextlib.suppress(OSError):
            os.close(fd)

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Queue a message for the API process; the descriptors are closed once it is sent."""
        self._outgoing.append((messages.encode(message), descriptors))
        if len(self._outgoing) > OUTGOING_MAX:
            self.open = False
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                data, descriptors = self._outgoing[0]
                socket.send_fds(self._control, [data], list(descriptors), socket.MSG_NOSIGNAL)
                self._outgoing.popleft()
                for fd in descriptors:
                    os.close(fd)
            self._poll.modify(self._control.fileno(), select.EPOLLIN)
        except BlockingIOError:
            self._poll.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self.open = False

    def _on_control(self) -> None:
        self._flush()
        for _ in range(RECEIVE_PER_WAKE):
            try:
                data, descriptors, flags, _ = socket.recv_fds(
                    self._control, messages.MESSAGE_BYTES, messages.DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, descriptors, flags = b"", [], 0
            if not data:
                self.open = False
                return
            try:
                self._on_message(data, descriptors, flags)
            finally:
                for fd in descriptors:
                    os.close(fd)

"""Blanks: sandboxes made ahead that hold no program yet. What takes long of a start is the same for every program.

Namespaces, firewall and control groups are there; limits, temporary folders, mounts and the program come with the
order (`docs/adr/0037-blanks.md`). A blank serves one start. Its process is a copy of the spawner, root in its own
namespaces, that waits on one socket and holds nothing else.
"""

import array
import json
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hearth.executor.sandbox import messages, syscalls
from hearth.executor.sandbox.boxes import Box
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.messages import StartRequest
from hearth.executor.sandbox.plan import BLANK, Plan
from hearth.executor.sandbox.root import OpenMount
from hearth.executor.sandbox.spec import Mount, Network, Profile, SandboxSpec

REFILL_DELAY_S = 0.1
"""How long after a sandbox has started the next blank is made: what was started has the machine first."""
FAILURE_PAUSE_S = 5.0
FIRST_OTHER_DESCRIPTOR = 3
ORDER_DESCRIPTORS_MAX = messages.DESCRIPTORS_MAX + 32
"""With an order: those of the start message, and a mount each."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """What a sandbox's firewall is told when it is made: a blank fits only a start that would be told the same."""

    opened: tuple[tuple[bytes, int], ...]
    own: tuple[bytes, ...]


class Blanks:
    """Which blanks there are and when the next one is made. Part of the spawner's loop; pure but for the sockets."""

    def __init__(self, count: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`count` are to be ready; none before the first start that could have used one."""
        self._count = count
        self._monotonic = monotonic
        self._made = 0
        self._boxes: list[Box] = []
        """Those being made and those that are ready, the oldest first."""
        self._like: StartRequest | None = None
        self.firewall: Firewall | None = None
        """What those of now were told."""
        self._refill_at: float | None = None

    @property
    def count(self) -> int:
        """How many are ready or being made."""
        return len(self._boxes)

    def take(self, request: StartRequest, firewall: Firewall) -> tuple[Box | None, Sequence[Box]]:
        """A blank for a start, from now on the caller's, or None; and those that fit nothing any more, to be ended."""
        if not self._count or not _could_be_blank(request.spec):
            return None, ()
        outdated: Sequence[Box] = ()
        if firewall != self.firewall:
            outdated, self._boxes = self._boxes, []
            self.firewall = firewall
        self._like = request
        if request.spec.mount_point:
            return None, outdated  # a stem cell is for later: blanks are for starts that somebody waits for
        box = next((box for box in self._boxes if _is_ready(box)), None)
        if box is not None:
            self._boxes.remove(box)
        return box, outdated

    def started(self) -> None:
        """Some sandbox has started: the machine may be used for the next blank a little later."""
        if self._like is not None and len(self._boxes) < self._count:
            self._refill_at = self._monotonic() + REFILL_DELAY_S

    def due(self) -> StartRequest | None:
        """The request to make a blank of, if one is due now; follow with `making`."""
        now = self._monotonic()
        if self._like is None or self._refill_at is None or now < self._refill_at or len(self._boxes) >= self._count:
            return None
        if any(box.starting for box in self._boxes):
            return None
        self._refill_at = None
        self._made += 1
        spec = SandboxSpec(
            id=f"blank-{self._made}",
            profile=Profile.RUN,
            argv=(),
            environment={},
            limits=self._like.spec.limits,
            network=Network.GATE,
        )
        return StartRequest(spec, (), self._like.opened)

    def making(self, box: Box) -> None:
        """One is being made; it is ready when it is not `starting` any more."""
        self._boxes.append(box)

    def failed(self) -> None:
        """One could not be made, or has ended: wait before the next."""
        self._refill_at = self._monotonic() + FAILURE_PAUSE_S

    def ended(self, box: Box) -> None:
        """One has ended that nobody took."""
        if box in self._boxes:
            self._boxes.remove(box)
            self.failed()

    def wait_s(self) -> float | None:
        """How long until one is due; None = not before something happens."""
        if self._refill_at is None or len(self._boxes) >= self._count or any(box.starting for box in self._boxes):
            return None
        return max(0.0, self._refill_at - self._monotonic())


def _could_be_blank(spec: SandboxSpec) -> bool:
    """Whether a blank is made as such a start is."""
    return spec.profile is Profile.RUN and spec.network is Network.GATE and not (spec.root or spec.image)


def _is_ready(box: Box) -> bool:
    """Whether it waits, also where the loop has not been told yet that it has ended."""
    if box.starting or box.status is not None or box.report is None:
        return False
    poll = select.poll()
    poll.register(box.pidfd, select.POLLIN)
    return not poll.poll(0)


def send_order(box: Box, message: dict[str, Any], descriptors: Sequence[int], mounts: Sequence[OpenMount]) -> None:
    """Tell a blank what it is for. Raises OSError; then nothing has reached it."""
    assert box.report is not None  # noqa: S101 - it is ready
    shown = [[mount.target, mount.folder, mount.writable, mount.on_disk] for mount in mounts]
    data = json.dumps({"start": message, "mounts": shown}).encode("utf-8", "surrogateescape")
    socket.send_fds(box.report, [data], [*descriptors, *(mount.fd for mount in mounts)], socket.MSG_NOSIGNAL)


def wait_for_order(plan: Plan, config: SpawnerConfig, report: socket.socket) -> Plan | None:
    """In the blank: say that it is ready, wait, and return the plan of what it is to be; None if the spawner is gone.

    Meanwhile it holds no descriptor but `report` and /dev/null: a copy of a pipe or socket would hide the end of the
    other side.
    """
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    kept = sorted((report.fileno(), plan.null_fd))
    following = FIRST_OTHER_DESCRIPTOR
    for fd in kept:
        if fd > following:
            syscalls.close_range(following, fd - 1)
        following = max(following, fd + 1)
    syscalls.close_range(following)
    _rehearse(plan, config)
    report.send(BLANK)
    size = array.array("i").itemsize * ORDER_DESCRIPTORS_MAX
    data, ancillary, flags, _ = report.recvmsg(
        messages.MESSAGE_BYTES * 2, socket.CMSG_SPACE(size), socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise OSError("the order was cut")
    received = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    order = json.loads(data)
    count = len(received) - len(order["mounts"])
    request = messages.start_request(order["start"], config, count)
    mounts = [OpenMount(fd, *fields) for fd, fields in zip(received[count:], order["mounts"], strict=True)]
    return replace(plan, request=request, descriptors=tuple(received[:count]), mounts=mounts)


def _rehearse(plan: Plan, config: SpawnerConfig) -> None:
    """Read an order of our own: the pages this writes to, shared with the spawner, are copied now and not then."""
    shown = Mount(f"{config.data_folder}/code", "/mnt/code")
    spec = replace(plan.request.spec, argv=("/usr/bin/true",), environment={"PATH": "/usr/bin"}, mounts=(shown,))
    order = json.loads(json.dumps({"start": messages.start_message(0, spec), "mounts": []}))
    messages.start_request(order["start"], config, 1 + spec.channel)

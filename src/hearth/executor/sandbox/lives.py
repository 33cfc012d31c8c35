"""The sandboxes of a spawner, each from its start to its end: their processes, control groups, uids and reports.

Whoever asks for them, and what else is asked, is `spawner`'s business. Stdlib only, as everything in that process.
"""

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hearth.executor.sandbox import (
    blanks,
    boxes,
    cgroups,
    docker,
    facilities,
    inside,
    messages,
    netlink,
    oci_config,
    root,
    runsc,
    syscalls,
    userns,
)
from hearth.executor.sandbox.blanks import Blanks, Firewall
from hearth.executor.sandbox.boxes import Box
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.errands import Errands
from hearth.executor.sandbox.later import attach
from hearth.executor.sandbox.loop import Loop
from hearth.executor.sandbox.messages import BadMessage, StartRequest
from hearth.executor.sandbox.meters import open_meters
from hearth.executor.sandbox.mounter import Mounter
from hearth.executor.sandbox.oci import LAUNCH_PIDS, Oci
from hearth.executor.sandbox.plan import BLANK, ENTERED, FAILED, GO, MEMINFO, Plan
from hearth.executor.sandbox.runsc import Runsc
from hearth.executor.sandbox.spec import Limits, Network
from hearth.executor.sandbox.systems import Systems


class Lives:
    """All sandboxes, and what they are made of. One per process; `box.status` says that one has ended."""

    def __init__(self, loop: Loop, config: SpawnerConfig, deletions: Errands) -> None:
        """Prepare the machine: sweep what a dead server left, make groups and the root template.

        `deletions` clears containers away. Raises OSError or CgroupError with the reason when that is not possible.
        """
        self.loop = loop
        self.config = config
        self.boxes: dict[str, Box] = {}
        self.uids = boxes.UidPool(config.uid_first, config.uid_count, runsc.UIDS if config.has_gvisor else 1)
        self.cgroups: cgroups.Cgroups | None = None
        if "cgroups" not in config.weaken:
            self.cgroups = cgroups.Cgroups(config.group_name())
            self.cgroups.sweep()
            self.cgroups.prepare((os.getpid(), os.getppid()))
        self.oci: Oci | None = None
        if config.driver == "oci":  # first: what is opened later must be in its mounts
            self.oci = (Runsc if config.has_gvisor else Oci)(config)
        self.bases = root.Bases(config)
        self.systems = Systems(config, self.bases, self.oci)
        self.seccomp = b"" if "seccomp" in config.weaken else facilities.seccomp_program()
        self.landlock_abi = syscalls.landlock_abi()
        self.null_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.pipe_device = _pipe_device()
        self.docker = docker.Docker(config, deletions) if config.driver == "docker" else None
        self.mounter = Mounter(loop.watch, loop.unwatch, attach)
        self.blanks = Blanks(0 if self.oci else config.blanks)

    def group_limits(self, limits: Limits) -> Limits:
        """The limits of the control group of a sandbox with these."""
        return runsc.group_limits(limits) if self.config.has_gvisor else limits

    def close(self) -> None:
        """Give back what sandboxes were made of, once all have ended."""
        if self.cgroups is not None:
            self.cgroups.sweep()
            self.cgroups.close()
        for launcher in (self.oci, self.docker):
            if launcher is not None:
                launcher.close()

    def look(self, now: float) -> None:
        """Finish what has ended, and end what takes too long to start."""
        for box in list(self.boxes.values()):
            if box.status is not None:
                self._finish(box)
            elif box.starting and now > box.deadline:
                box.problem = box.problem or "start: took too long"
                self.end(box)

    # ------------------------------------------------------------------------------------------ start

    def start(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Check, prepare and create one sandbox; the reply follows when its program runs or could not."""
        request = messages.start_request(message, self.config, len(descriptors))
        spec = request.spec
        if spec.id in self.boxes:
            raise BadMessage(f"id {spec.id} is in use")
        if len(self.boxes) - self.blanks.count >= self.config.sandboxes_max:
            raise BadMessage(f"{self.config.sandboxes_max} sandboxes run already")
        use_gate = spec.network is Network.GATE and "egress" not in self.config.weaken
        own = tuple(item.packed for item in netlink.own_addresses() if item.version == 4) if use_gate else ()
        mounts = self.bases.open_mounts(spec.mounts)
        try:
            if self._fill_blank(request, message, Firewall(request.opened, own), descriptors, mounts):
                return
            self._make(request, message["seq"], descriptors, mounts, own if use_gate else None)
        finally:
            root.close_mounts(mounts)

    def _fill_blank(
        self,
        request: StartRequest,
        message: dict[str, Any],
        firewall: Firewall,
        descriptors: list[int],
        mounts: Sequence[root.OpenMount],
    ) -> bool:
        """Let a blank become what is asked for; False if there is none that can."""
        spec = request.spec
        box, outdated = self.blanks.take(request, firewall)
        for other in outdated:
            self.end(other)
        if box is None:
            return False
        try:
            if box.group is not None and self.cgroups is not None:
                self.cgroups.retune(box.group, box.limits, spec.limits)
            self._give_output(descriptors[0], box.uid)
            blanks.send_order(box, message, descriptors, mounts)
        except (OSError, cgroups.CgroupError):
            self.end(box)
            return False
        del self.boxes[box.id]
        box.become(spec, message["seq"], time.monotonic() + self.config.start_timeout_s)
        self.boxes[box.id] = box
        return True

    def make_blank(self) -> None:
        """Make the blank that is due, if one is."""
        request = self.blanks.due()
        if request is None or self.blanks.firewall is None or len(self.boxes) >= self.config.sandboxes_max:
            return
        try:
            box = self._make(request, 0, (), (), self.blanks.firewall.own, is_blank=True)
        except (OSError, cgroups.CgroupError):
            self.blanks.failed()
        else:
            self.blanks.making(box)

    def _give_output(self, pipe: int, uid: int) -> None:
        """Let a sandbox's programs open /dev/stdout and /dev/stderr."""
        if os.fstat(pipe).st_dev == self.pipe_device:
            os.fchown(pipe, uid, uid)

    def _make(
        self,
        request: StartRequest,
        sequence: int,
        descriptors: Sequence[int],
        mounts: Sequence[root.OpenMount],
        own: Sequence[bytes] | None,
        is_blank: bool = False,
    ) -> Box:
        """Create the first process of a sandbox and its box; `own` are the host's addresses, None without a gate.

        Raises OSError or CgroupError; nothing is left then.
        """
        spec = request.spec
        launcher = self.docker if spec.image else self.oci
        is_launched = launcher is not None and not self.config.has_gvisor
        template, oci_root = self.systems.find(spec.root)
        group = None
        uid = self.uids.take()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            if self.cgroups is not None:
                limits = self.group_limits(spec.limits)
                pids = limits.pids + (LAUNCH_PIDS if is_launched else 0)
                group = self.cgroups.create(spec.id, limits.memory_bytes, limits.cpus, pids)
            plan = Plan(
                request=request,
                uid=uid + 1 if self.config.has_gvisor else uid,
                host_uid=uid,
                server_uid=self.config.server_uid,
                uid_range=range(self.config.uid_first, self.config.uid_first + self.config.uid_count),
                mounts=mounts,
                descriptors=descriptors,
                null_fd=self.null_fd,
                template=template,
                oci_root=oci_root,
                seccomp=self.seccomp,
                landlock_abi=self.landlock_abi,
                use_cgroups=group is not None,
                use_gate=own is not None,
                own_addresses=own or (),
            )
            if descriptors:
                self._give_output(descriptors[0], plan.uid)
            pid, pidfd = self._clone(plan, group, ours, theirs, launcher, is_launched, is_blank)
        except BaseException:
            ours.close()
            self.uids.give_back(uid)
            if group is not None and self.cgroups is not None:
                self.cgroups.remove(group)
                self._close_event(group)
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        timeout_s = docker.START_TIMEOUT_S if spec.image else self.config.start_timeout_s
        if self.config.has_gvisor:
            timeout_s = max(timeout_s, runsc.START_TIMEOUT_S)
        deadline = time.monotonic() + timeout_s
        box = Box(spec.id, sequence, uid, pid, pidfd, ours, group, spec.limits, spec.mount_point, deadline)
        box.launching = is_launched
        box.root = oci_root if self.config.has_gvisor else ""
        box.is_container = bool(spec.image)
        box.is_blank = is_blank
        self.boxes[spec.id] = box
        self.loop.watch(pidfd, lambda: self._on_exit(box))
        self.loop.watch(ours.fileno(), lambda: self._on_report(box))
        if group is not None and group.oom_event_fd >= 0:
            self.loop.watch(group.oom_event_fd, lambda: self._on_out_of_memory(box))
        try:
            if group is not None and self.cgroups is not None:
                self.cgroups.attach(group, pid)  # meanwhile the new process makes its mounts
            ours.send(GO)
        except OSError as problem:
            self._on_report(box)  # if it gave up meanwhile, its own reason counts
            box.problem = box.problem or f"cgroup: {problem}"
            self.end(box)
        return box

    def _clone(
        self,
        plan: Plan,
        group: cgroups.Group | None,
        ours: socket.socket,
        theirs: socket.socket,
        launcher: Oci | docker.Docker | None,
        is_launched: bool,
        is_blank: bool,
    ) -> tuple[int, int]:
        folder = self.cgroups.unified_folder(group) if self.cgroups is not None and group is not None else None
        group_fd = cgroups.cgroup_folder_fd(folder) if folder else -1
        try:
            pid, pidfd = syscalls.clone(0 if is_launched else syscalls.CLONE_NEWPID, group_fd)
            if pid == 0:
                os.close(ours.fileno())  # else the wait for the spawner's word would outlive the spawner
                if is_blank:
                    inside.run(plan, theirs, lambda: blanks.wait_for_order(plan, self.config, theirs))
                (launcher or inside).run(plan, theirs)
            return pid, pidfd
        finally:
            if group_fd >= 0:
                os.close(group_fd)

    def _on_report(self, box: Box) -> None:
        """Hear how far the setup of a sandbox came; its end of file means exec or exit."""
        while box.report is not None:
            try:
                data, descriptors, _, _ = socket.recv_fds(box.report, 1_024, 2, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if data == MEMINFO and descriptors:
                box.meminfo_fd = descriptors.pop()
            box.gate_fds += descriptors
            if data == ENTERED:
                box.entered = True
            elif data == BLANK:
                box.starting = False
                self.blanks.started()
            elif data.startswith(FAILED):
                box.problem = box.problem or data[1:].decode(errors="replace")
            elif not data:
                self.loop.unwatch(box.report.detach())
                box.report = None
                if not box.launching:  # else this was only the start of runc
                    self._on_started(box)

    def _on_started(self, box: Box) -> None:
        box.starting = False
        self.blanks.started()
        if box.entered and not box.problem:
            gate_fds, box.gate_fds = box.gate_fds, []
            meters = open_meters(box.group) if box.group is not None else {}
            box.announced = True
            uid = userns.host_uid(self.config, box.uid)
            started: dict[str, Any] = {"seq": box.sequence, "uid": uid, "pid": box.pid}
            started |= {"gates": len(gate_fds), "meters": list(meters)}  # whose descriptors follow, in this order
            self.loop.send(started, [*gate_fds, *meters.values()])
            if box.mount_point:
                self.mounter.prepare()
        else:
            box.problem = box.problem or "setup: the process ended"
            self.end(box)

    def _on_launched(self, box: Box, status: int) -> bool:
        """What launches has ended: whether there is a sandbox now, whose program is ours to wait for."""
        maker = self.docker if box.is_container else self.oci
        assert maker is not None  # noqa: S101 - only then something is launched
        self._on_report(box)
        launcher = box.pidfd
        box.launching = False
        if status != 0 and box.entered and self.oci is not None:
            box.problem = box.problem or self.oci.refused(box)
        adopted = status == 0 and maker.adopt(box)
        if box.group is not None and not box.is_container:
            box.group = cgroups.with_inner(box.group, oci_config.group_name(box.id), box.pid if adopted else 0)
            cgroups.count_sockets(box.group)
        if not adopted:
            return False
        self.loop.unwatch(launcher)
        self.loop.watch(box.pidfd, lambda: self._on_exit(box))
        if box.group is not None and self.cgroups is not None:
            wide = replace(box.limits, pids=box.limits.pids + LAUNCH_PIDS)
            try:
                self.cgroups.retune(box.group, wide, box.limits)
            except cgroups.CgroupError as problem:
                box.problem = str(problem)
        self._on_started(box)
        return True

    # ------------------------------------------------------------------------------------------ end

    def _on_out_of_memory(self, box: Box) -> None:
        """v1 kills one process when memory is out; end the others with it, as v2 does by itself."""
        if box.group is not None:
            with contextlib.suppress(OSError):
                os.read(box.group.oom_event_fd, 8)
        box.out_of_memory = True
        self.end(box)

    def end(self, box: Box) -> None:
        """Kill every process of a sandbox: with its first one the kernel ends the whole pid namespace."""
        if box.status is None:
            if box.group is not None and self.cgroups is not None:
                self.cgroups.kill(box.group)
            syscalls.pidfd_kill(box.pidfd)
            docker.end_holder(box)

    def _on_exit(self, box: Box) -> None:
        """Collect the first process; by then no other process of its pid namespace is left."""
        _, status = os.waitpid(box.pid, 0)
        if box.launching and self._on_launched(box, status):
            return
        box.status = runsc.wait_status(status) if self.config.has_gvisor else status
        docker.end_holder(box)
        self._on_report(box)
        self.loop.unwatch(box.pidfd)
        if box.group is not None and self.cgroups is not None:
            self._close_event(box.group)
            box.usage = self.cgroups.usage(box.group)
        for fd in box.gate_fds:
            os.close(fd)
        box.gate_fds = []
        if box.meminfo_fd >= 0:
            os.close(box.meminfo_fd)
            box.meminfo_fd = -1

    def _close_event(self, group: cgroups.Group) -> None:
        if group.oom_event_fd >= 0:
            self.loop.unwatch(group.oom_event_fd)

    def _finish(self, box: Box) -> None:
        """Delete the groups of an ended sandbox, free its uid and say how it ended; again until the kernel lets go."""
        if box.group is not None and self.cgroups is not None and not self.cgroups.remove(box.group):
            box.removals += 1
            if box.removals < boxes.REMOVALS_MAX:
                return
        maker = self.docker if box.is_container else self.oci
        if maker is not None:
            maker.forget(box)
        del self.boxes[box.id]
        self.uids.give_back(box.uid)
        if box.announced:
            self.loop.send(box.exit_message())
        elif box.is_blank:
            self.blanks.ended(box)
        else:
            self.loop.send({"seq": box.sequence, "error": box.problem or "ended"})


def _pipe_device() -> int:
    """The device number of unnamed pipes: what has another is not handed to a sandbox's uid."""
    reader, writer = os.pipe()
    os.close(writer)
    try:
        return os.fstat(reader).st_dev
    finally:
        os.close(reader)

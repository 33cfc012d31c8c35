"""Limits and accounting through cgroups, alike on v1, v2 and hybrid hosts (spawner side).

A server owns one parent group per hierarchy, named by its data folder, below the group it was started in; each
sandbox is a child of that. On a v2 host whose group may not have children with limits (the "no internal processes"
rule) the server's own processes first move into a leaf beside it, or the parent group goes to the root.
"""

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.cgroup_folders import (
    SOCKET_MEMORY_BYTES_MAX,
    change_memory,
    counter,
    end,
    kill_listed,
    limit_cpu,
    limit_memory,
    named,
    read,
    remove_folder,
    write,
)
from hearth.executor.sandbox.spec import Limits

NEEDED = ("memory", "cpu", "pids")
LEAF = "hearth-server"
"""Name of the v2 group that the server's own processes move to, so that their group may have children with limits."""
SWEEP_DEPTH = 8
KILL_WAIT_S = 5.0


class CgroupError(Exception):
    """The cgroup hierarchies of this machine cannot hold our groups; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one sandbox used, read before its groups go."""

    out_of_memory: bool = False
    pids_exhausted: bool = False
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup file system: where, which controllers, and the group this process is in."""

    mount: str
    controllers: frozenset[str]
    own: str
    unified: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one sandbox, one folder per hierarchy."""

    folders: tuple[str, ...]
    oom_event_fd: int = -1
    inner: tuple[str, ...] = ()
    """Groups that runc made for it, below these and elsewhere; they are counted and go with it."""


def hierarchies(mountinfo: str, own_groups: str, every: bool = False) -> tuple[Hierarchy, ...]:
    """The cgroup file systems in the text of /proc/self/mountinfo, with our place by /proc/self/cgroup."""
    places: dict[str, str] = {}
    for line in own_groups.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        for name in names.split(","):
            places[name] = path
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, about = left.split(), right.split()
        if len(fields) < 5 or len(about) < 3 or about[0] not in ("cgroup", "cgroup2"):
            continue
        root, mount = fields[3], fields[4]
        if about[0] == "cgroup2":
            controllers, place = frozenset[str](), places.get("", "/")
        else:
            controllers = frozenset(about[2].split(","))
            if not every:
                controllers &= {*NEEDED, "cpuacct", "freezer"}
            if not controllers:
                continue
            place = next((places[name] for name in sorted(controllers) if name in places), "/")
        relative = os.path.relpath(place, root) if place.startswith(root) else "."
        own = os.path.normpath(os.path.join(mount, relative)) if not relative.startswith("..") else mount
        key = "unified" if about[0] == "cgroup2" else ",".join(sorted(controllers))
        found.setdefault(key, Hierarchy(mount, controllers, own, about[0] == "cgroup2"))
    return tuple(found.values())


class Cgroups:
    """The parent groups of one server, and the groups of its sandboxes below them."""

    def __init__(self, name: str) -> None:
        """Find the hierarchies; nothing is created before `prepare`. `name` is the parent group's folder name."""
        self.name = name
        self.hierarchies = hierarchies(read("/proc/self/mountinfo"), read("/proc/self/cgroup"))
        self._parents: dict[str, str] = {}
        v1 = {name for one in self.hierarchies for name in one.controllers}
        self.unified = next((one for one in self.hierarchies if one.unified), None)
        if self.unified is not None:  # it counts CPU time, freezes and kills: fewer groups to make and enter
            self.hierarchies = tuple(one for one in self.hierarchies if one.unified or one.controllers & set(NEEDED))
        self._v2_controllers = tuple(name for name in NEEDED if name not in v1)

    def prepare(self, own_pids: Sequence[int]) -> None:
        """Make the parent groups. `own_pids` are the server's processes, moved to a leaf where v2 asks for it.

        Raises CgroupError.
        """
        if self._v2_controllers and self.unified is None:
            raise CgroupError(f"no mounted cgroup hierarchy has {', '.join(self._v2_controllers)}")
        for one in self.hierarchies:
            try:
                parent = self._prepare_unified(one, own_pids) if one.unified else os.path.join(one.own, self.name)
                os.makedirs(parent, exist_ok=True)
                if one.unified and self._v2_controllers:
                    write(f"{parent}/cgroup.subtree_control", " ".join(f"+{name}" for name in self._v2_controllers))
            except OSError as problem:
                raise CgroupError(f"{one.mount}: {problem}") from problem
            self._parents[one.mount] = parent

    def _prepare_unified(self, one: Hierarchy, own_pids: Sequence[int]) -> str:
        """Where the parent group goes on v2, with the controllers it needs enabled above it."""
        if not self._v2_controllers:
            return os.path.join(one.own, self.name)
        enable = " ".join(f"+{name}" for name in self._v2_controllers)
        problems = []
        own = os.path.dirname(one.own) if os.path.basename(one.own) == LEAF else one.own
        for place in dict.fromkeys((own, one.mount)):
            try:
                missing = set(self._v2_controllers) - set(read(f"{place}/cgroup.controllers").split())
                if missing:
                    raise CgroupError(f"{place} offers no {', '.join(sorted(missing))}")
                try:
                    write(f"{place}/cgroup.subtree_control", enable)
                except OSError as problem:
                    if problem.errno != errno.EBUSY:
                        raise
                    self._move_to_leaf(place, own_pids)
                    write(f"{place}/cgroup.subtree_control", enable)
            except (OSError, CgroupError) as problem:
                problems.append(f"{place}: {problem}")
                continue
            return os.path.join(place, self.name)
        raise CgroupError("; ".join(problems))

    def _move_to_leaf(self, place: str, own_pids: Sequence[int]) -> None:
        """Empty `place` of our own processes; with anyone else's in it there is nothing we may do."""
        leaf = os.path.join(place, LEAF)
        others = {int(pid) for pid in read(f"{place}/cgroup.procs").split()} - set(own_pids)
        if others:
            raise CgroupError(f"holds processes that are not ours (pid {min(others)})")
        os.makedirs(leaf, exist_ok=True)
        for pid in own_pids:
            with contextlib.suppress(ProcessLookupError):
                write(f"{leaf}/cgroup.procs", pid)

    def sweep(self) -> int:
        """End what a dead server of this name left anywhere in the hierarchies; returns how many groups went.

        The parent of a crashed server may lie below another group than ours, so the name is looked for.
        """
        gone = 0
        deadline = time.monotonic() + KILL_WAIT_S
        for one in self.hierarchies:
            for parent in list(named(one.mount, self.name, SWEEP_DEPTH)):
                for folder, _, _ in os.walk(parent, topdown=False):
                    gone += end(folder, deadline)
        return gone

    def create(self, id: str, memory_bytes: int, cpus: float, pids: int) -> Group:
        """Make the groups of one sandbox with their limits set. Raises CgroupError; then nothing is left."""
        folders: list[str] = []
        event = -1
        try:
            for one in self.hierarchies:
                folder = os.path.join(self._parents[one.mount], id)
                os.mkdir(folder)
                folders.append(folder)
                names = frozenset(self._v2_controllers) if one.unified else one.controllers
                if "pids" in names:
                    write(f"{folder}/pids.max", pids)
                if "cpu" in names:
                    limit_cpu(folder, cpus, one.unified)
                if "memory" in names:
                    event = limit_memory(folder, memory_bytes, one.unified)
        except OSError as problem:
            if event >= 0:
                os.close(event)
            self.remove(Group(tuple(folders)))
            raise CgroupError(f"create group {id}: {problem}") from problem
        return Group(tuple(folders), event)

    def retune(self, group: Group, old: Limits, new: Limits) -> None:
        """Change the limits of a group from `old` to `new`. Raises CgroupError, e.g. when it uses more already."""
        unified = self.unified_folder(group)
        try:
            for folder in group.folders:
                one = next(item for item in self.hierarchies if self._parents[item.mount] == os.path.dirname(folder))
                names = frozenset(self._v2_controllers) if one.unified else one.controllers
                if "pids" in names and new.pids != old.pids:
                    write(f"{folder}/pids.max", new.pids)
                if "cpu" in names and new.cpus != old.cpus:
                    limit_cpu(folder, new.cpus, folder == unified)
                if "memory" in names and new.memory_bytes != old.memory_bytes:
                    change_memory(folder, old.memory_bytes, new.memory_bytes, folder == unified)
        except OSError as problem:
            raise CgroupError(f"change limits: {problem}") from problem

    def unified_folder(self, group: Group) -> str | None:
        if self.unified is None:
            return None
        parent = self._parents[self.unified.mount]
        return next((folder for folder in group.folders if os.path.dirname(folder) == parent), None)

    def _unified_folders(self, group: Group) -> list[str]:
        """The v2 group and those of runc's that are not below it."""
        unified = self.unified_folder(group)
        if unified is None or self.unified is None:
            return []
        mount = self.unified.mount + "/"
        inner = [folder for folder in group.inner if folder.startswith(mount) and not folder.startswith(f"{unified}/")]
        return [unified, *inner]

    def attach(self, group: Group, pid: int) -> None:
        """Move a process into every group but the v2 one, in which it was started."""
        unified = self.unified_folder(group)
        for folder in group.folders:
            if folder != unified:
                write(f"{folder}/cgroup.procs", pid)

    def kill(self, group: Group) -> None:
        """Kill every process of the group at once. Without cgroup.kill the pid namespace's end does the same."""
        unified = self.unified_folder(group)
        for folder in self._unified_folders(group):
            with contextlib.suppress(OSError):
                write(f"{folder}/cgroup.freeze", 0)
            with contextlib.suppress(OSError):
                write(f"{folder}/cgroup.kill", 1)
        for folder in group.inner:
            kill_listed(folder)
        for folder in group.folders:  # a frozen process of v1 dies only once it is thawed
            if folder != unified and os.path.exists(f"{folder}/freezer.state"):
                with contextlib.suppress(OSError):
                    write(f"{folder}/freezer.state", "THAWED")

    def freeze(self, group: Group, frozen: bool) -> None:
        """Stop or continue every process of the group. Raises CgroupError when no hierarchy can."""
        unified = self._unified_folders(group)
        try:
            if unified and os.path.exists(f"{unified[0]}/cgroup.freeze"):
                for folder in unified:
                    write(f"{folder}/cgroup.freeze", int(frozen))
                return
            for folder in group.folders:
                if os.path.exists(f"{folder}/freezer.state"):
                    write(f"{folder}/freezer.state", "FROZEN" if frozen else "THAWED")
                    return
        except OSError as problem:
            raise CgroupError(f"freeze: {problem}") from problem
        raise CgroupError("no freezer in any cgroup hierarchy")

    def usage(self, group: Group) -> Usage:
        """What the sandbox used; zeros for what the machine does not count."""
        kills = limits = peak = 0
        cpu_s = 0.0
        for folder in (*group.folders, *group.inner):
            kills += counter(f"{folder}/memory.oom_control", "oom_kill")
            kills += counter(f"{folder}/memory.events", "oom_kill")
            limits += counter(f"{folder}/pids.events", "max")
            for name in ("memory.max_usage_in_bytes", "memory.peak"):
                with contextlib.suppress(OSError, ValueError):
                    peak = max(peak, int(read(f"{folder}/{name}")))
            cpu_s = max(cpu_s, counter(f"{folder}/cpu.stat", "usage_usec") / 1e6)
            with contextlib.suppress(OSError, ValueError):
                cpu_s = max(cpu_s, int(read(f"{folder}/cpuacct.usage")) / 1e9)
        return Usage(kills > 0, limits > 0, cpu_s, peak)

    def remove(self, group: Group) -> bool:
        """Delete the group's folders; False when the kernel still holds one (try again a little later).

        The event descriptor is not closed: its holder does that, once.
        """
        return not [folder for folder in (*group.inner, *group.folders) if not remove_folder(folder)]

    def close(self) -> None:
        """Delete the (empty) parent groups."""
        for parent in self._parents.values():
            remove_folder(parent)


def count_sockets(group: Group) -> None:
    """Let what sockets in runc's own groups hold count too: v1 looks at a process's own group whether it does."""
    for folder in group.inner:
        with contextlib.suppress(OSError):
            write(f"{folder}/memory.kmem.tcp.limit_in_bytes", SOCKET_MEMORY_BYTES_MAX)


def with_inner(group: Group, name: str, pid: int = 0) -> Group:
    """The group of a sandbox, with the groups called `name` that runc has made for its first process.

    They are where that process is now; without one they are looked for where they may be, in the group and beside it.
    """
    mounts, own = read("/proc/self/mountinfo"), read("/proc/self/cgroup")
    found = [os.path.join(folder, name) for folder in group.folders]
    found += [
        os.path.join(place, name) for one in hierarchies(mounts, own, every=True) for place in (one.own, one.mount)
    ]
    with contextlib.suppress(OSError):
        if pid:
            found += [one.own for one in hierarchies(mounts, read(f"/proc/{pid}/cgroup"), every=True)]
    inner = [folder for folder in found if os.path.basename(folder) == name and os.path.isdir(folder)]
    return replace(group, inner=tuple(dict.fromkeys(inner)))


def cgroup_folder_fd(folder: str) -> int:
    """A descriptor of a v2 group's folder, for `syscalls.clone`."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def namespace() -> None:
    """Hide the names of the groups above the current ones; only after this process was attached to its own."""
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)

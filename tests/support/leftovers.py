"""What a server may leave on the machine: processes, control groups, mounts. Reads /proc only, changes nothing."""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

CGROUP_FILE_SYSTEMS = ("cgroup", "cgroup2")


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good: a pid alone is reused, with its start time (clock ticks) it is not."""

    pid: int
    started: int
    command: str = field(compare=False, default="")

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie nobody has waited for yet does not."""
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state != "Z"


@dataclass(frozen=True, slots=True)
class Footprint:
    """The processes of a server at one moment, and the control groups made for them."""

    processes: frozenset[Process]
    cgroups: frozenset[Path]

    def remains(self) -> list[str]:
        """What of it is still there, one line each."""
        lines = [f"process {p.pid}: {p.command}" for p in self.processes if p.is_alive()]
        lines += [f"control group {path}" for path in self.cgroups if path.is_dir()]
        return sorted(lines)


def open_below(folder: Path) -> list[str]:
    """What this process has open in a folder. What it has open elsewhere may come and go by what ran before."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed, as is the one of the list
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith(f"{folder}/")]


def footprint(pid: int) -> Footprint:
    """The process `pid`, all its descendants, and their control groups unless those are ours as well."""
    stats = {stat.pid: stat for stat in map(_stat, _pids()) if stat}
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: list[int] = []
    pending = [pid]
    while pending:
        current = pending.pop()
        if current in stats:
            found.append(current)
            pending.extend(children.get(current, ()))
    ours = _cgroups(os.getpid())
    groups = frozenset().union(*(_cgroups(member) for member in found)) - ours
    return Footprint(frozenset(Process(p, stats[p].started, _command(p)) for p in found), groups)


def mounts_below(path: Path) -> list[str]:
    """Mount points in our own mount namespace that lie at or below `path`, or show something of it elsewhere."""
    return _mounts_naming(Path("/proc/self/mountinfo"), path)


def processes_using(path: Path) -> list[str]:
    """Processes that name `path` in their command or working folder, or have something of it mounted.

    Ours and our ancestors are left out: a test runner names its temporary folder too.
    """
    exempt = _ancestors(os.getpid())
    ours = set(_read(Path("/proc/self/mountinfo")).splitlines())
    lines = []
    for pid in _pids():
        stat = _stat(pid)
        if pid in exempt or stat is None or stat.state == "Z":
            continue
        folder = Path(f"/proc/{pid}")
        mounts = [line for line in _mounts_naming(folder / "mountinfo", path) if line not in ours]
        if str(path) in _command(pid) or _is_below(_link(folder / "cwd"), path) or mounts:
            lines.append(f"process {pid}: {_command(pid)}")
    return lines


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    parent: int
    state: str
    started: int


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _stat(pid: int) -> _Stat | None:
    text = _read(Path(f"/proc/{pid}/stat"))
    if not text:
        return None
    # The command in parentheses may hold anything, so count from the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(pid, int(fields[1]), fields[0], int(fields[19]))


def _ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = _stat(pid)
        pid = stat.parent if stat else 0
    return found


def _cgroups(pid: int) -> frozenset[Path]:
    """The folders of a process's control groups and of those above them, in every hierarchy that is mounted here."""
    mounts: dict[str, Path] = {}
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in CGROUP_FILE_SYSTEMS:
            mount_point = Path(left.split(" ")[4])
            for controller in [""] if kind == "cgroup2" else options.split(","):
                mounts[controller] = mount_point
    folders = set()
    for line in _read(Path(f"/proc/{pid}/cgroup")).splitlines():
        _, controllers, group = line.split(":", 2)
        hierarchy = mounts.get(controllers.split(",")[0])
        if hierarchy is not None and group != "/":
            folder = hierarchy / group.lstrip("/")
            folders |= {folder, *(above for above in folder.parents if above.is_relative_to(hierarchy))} - {hierarchy}
    return frozenset(folders)


def _mounts_naming(mountinfo: Path, path: Path) -> list[str]:
    found = []
    for line in _read(mountinfo).splitlines():
        fields = line.split(" ")
        if _is_below(Path(fields[3]), path) or _is_below(Path(fields[4]), path):
            found.append(line)
    return found


def _is_below(path: Path | None, folder: Path) -> bool:
    return path is not None and path.is_relative_to(folder)


def _command(pid: int) -> str:
    return (
        _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()
        or f"[{_read(Path(f'/proc/{pid}/comm')).strip()}]"
    )


def _link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:
        return None


def _read(path: Path) -> str:
    """The text of a file of /proc, `""` when its process has gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

"""What runsc is told of a sandbox: the OCI runtime configuration (config.json) with the limits of `ns`.

Masks of /proc are not in it, for gVisor's /proc has nothing of this machine. The seccomp rules are those of
`filters.generate` in another form: runsc takes the first rule that fits, so what is refused comes before what is
allowed, and an argument need not be told piece by piece as for runc.
"""

import platform
import resource
import stat
from collections.abc import Iterator
from typing import Any

from hearth.executor.sandbox import furnishing, inside, root
from hearth.executor.sandbox.filters import generate
from hearth.executor.sandbox.oci_config import ARCHITECTURES, NO_CAPABILITIES, RLIMIT_NAMES, VERSION
from hearth.executor.sandbox.plan import Plan

NAMESPACES = ("user", "pid", "ipc", "uts", "mount")
"""Made by runsc; the network namespace is the one that the spawner's child has prepared."""
_FOLDERS = ("/mnt", "/opt", "/usr/local")
_WORD = 0xFFFF_FFFF
_KIND, _DEVICES = 0xF000, (stat.S_IFCHR, stat.S_IFBLK)
_NOT_THERE = "SCMP_ACT_TRACE"
"""Refused with ENOSYS: that is what a program gets that nobody traces, and nothing here may trace."""


def document(plan: Plan, root_folder: str, own: str) -> dict[str, Any]:
    """The configuration of one sandbox, whose root folder and own files have been prepared at these paths."""
    spec = plan.request.spec
    plain = ["nosuid", "nodev"]
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": [*plain, "noexec"]},
        {"destination": "/sys", "type": "tmpfs", "source": "tmpfs", "options": [*plain, "ro", "noexec", "size=4k"]},
        {"destination": "/proc/meminfo", "type": "bind", "source": f"{own}/meminfo", "options": ["bind", "ro", *plain]},
    ]
    mounts += [
        {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": [*plain, "mode=1777", options]}
        for target, options in temporary_folders(plan)
    ]
    if spec.mount_point:  # a mount of its own, in which gVisor looks again: something comes later
        folder = folder_of(spec.mount_point)
        mounts.append(
            {"destination": folder, "type": "bind", "source": root_folder + folder, "options": ["rbind", "ro", *plain]}
        )
    mounts += [
        {
            "destination": mount.target,
            "type": "bind",
            "source": root_folder + mount.target,
            "options": ["rbind", "rw", *plain],
        }
        for mount in plan.mounts
        if mount.writable
    ]
    ids = [{"containerID": inside_id, "hostID": id, "size": 1} for inside_id, id in _ids(plan)]
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "uidMappings": ids,
        "gidMappings": ids,
    }
    if plan.seccomp:
        linux["seccomp"] = seccomp(platform.machine())
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": plan.uid, "gid": plan.uid},
            "args": list(spec.argv),
            "env": [f"{name}={value}" for name, value in spec.environment.items()],
            "cwd": spec.working_folder,
            "capabilities": NO_CAPABILITIES,
            "rlimits": list(_rlimits(plan)),
            "noNewPrivileges": True,
            "oomScoreAdj": inside.OOM_SCORE_ADJUSTMENT,
        },
        "root": {"path": root_folder, "readonly": True},
        "hostname": root.HOST_NAME,
        "mounts": mounts,
        "linux": linux,
    }


def folder_of(target: str) -> str:
    """The folder of sandboxes' own mounts that a target is in."""
    return next(folder for folder in _FOLDERS if target == folder or target.startswith(f"{folder}/"))


def temporary_folders(plan: Plan) -> Iterator[tuple[str, str]]:
    """The folders in memory with the option that gVisor knows of those that bound them: the size, not the inodes."""
    for target, options in furnishing.temporary_folders(plan.request.spec.limits):
        yield target, next(option for option in options.split(",") if option.startswith("size="))


def _ids(plan: Plan) -> tuple[tuple[int, int], ...]:
    """(id inside, id on this machine): of gVisor's own processes, and of the program and its files."""
    return (0, plan.host_uid), (plan.uid, plan.uid)


def _rlimits(plan: Plan) -> Iterator[dict[str, Any]]:
    limits = plan.request.spec.limits
    for kind, value in inside.resource_limits(limits, plan.use_cgroups):
        # no control group counts the sandbox's processes, which are none of this machine's
        number = limits.pids if kind == resource.RLIMIT_NPROC else value
        yield {"type": RLIMIT_NAMES[kind], "soft": number, "hard": number}


# ------------------------------------------------------------------------------------------------ seccomp


def seccomp(machine: str) -> dict[str, Any]:
    """The allow list of `filters.generate` as runsc takes it: other calls are refused, unknown ones are not there."""
    names = {name for group in generate.PLAIN.values() for name in group.split()}
    names |= {"ioctl", "prctl", "prlimit64", "setrlimit"}
    others = generate.numbers(machine).keys() - names
    rules: list[dict[str, Any]] = [
        {"names": ["clone3", "sync", "syncfs"], "action": _NOT_THERE},
        *(_refused("ioctl", 1, value) for value in (0x5412, 0x541C, 0x5423)),
        *(_refused("prctl", 0, value) for value in (22, 35)),
        *(_refused(name, index, kind, _KIND) for name, index in (("mknod", 1), ("mknodat", 2)) for kind in _DEVICES),
        _allowed("clone", _masked(0, generate.NEW_NAMESPACES, 0)),
        _allowed("prctl", _masked(0, _WORD, 1), _masked(1, _WORD, 9)),
        _refused("prctl", 0, 1),
        _allowed("socket", _masked(0, _WORD, 1)),
        *(
            _allowed("socket", _masked(0, _WORD, family), _masked(1, 0xF, kind), _masked(2, _WORD, protocol))
            for family in (2, 10)
            for kind in (1, 2)
            for protocol in (0, 6, 17)
        ),
        _allowed("socket", _masked(0, _WORD, 16), _masked(2, _WORD, 0)),
        _allowed("socketpair", _masked(0, _WORD, 1)),
        *(_allowed("personality", _masked(0, _WORD, value)) for value in (0, _WORD)),
        {"names": sorted(names), "action": "SCMP_ACT_ALLOW"},
        {"names": sorted(others), "action": "SCMP_ACT_ERRNO"},
    ]
    return {"defaultAction": _NOT_THERE, "architectures": [ARCHITECTURES[machine]], "syscalls": rules}


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    """An argument whose bits in `mask` are those of `value`; the upper half, which the kernel ignores, may be any."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _allowed(name: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _refused(name: str, index: int, value: int, mask: int = _WORD) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "args": [_masked(index, mask, value)]}

"""What runc is told of a sandbox: the OCI runtime configuration (config.json) with the limits and masks of `ns`.

The seccomp rules are those of `filters.generate`, in the form runc takes.
"""

import platform
import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hearth.executor.sandbox import furnishing, inside, root
from hearth.executor.sandbox.filters import generate
from hearth.executor.sandbox.plan import Plan

VERSION = "1.0.2"
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
"""Made by runc; the network namespace is the one that the spawner's child has prepared."""
NO_CAPABILITIES: Mapping[str, list[str]] = {
    kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
}
_WORD = 0xFFFF_FFFF
_LONG = 0xFFFF_FFFF_FFFF_FFFF
_LOW_BITS = 6

RLIMIT_NAMES = {
    getattr(resource, name): name
    for name in (
        *("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_NICE", "RLIMIT_RTPRIO"),
        *("RLIMIT_MSGQUEUE", "RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_DATA"),
    )
}


def document(plan: Plan, root_folder: str, own: str) -> dict[str, Any]:
    """The configuration of one sandbox, whose root folder and own files have been prepared at these paths."""
    spec = plan.request.spec
    plain = ["nosuid", "nodev"]
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": [*plain, "noexec"]},
        {
            "destination": "/dev",
            "type": "bind",
            "source": f"{root_folder}/dev",
            "options": ["rbind", "ro", *plain],
        },
        {"destination": "/proc/meminfo", "type": "bind", "source": f"{own}/meminfo", "options": ["bind", "ro", *plain]},
    ]
    mounts += [
        {
            "destination": target,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": [*plain, "mode=1777", *options.split(",")],
        }
        for target, options in furnishing.temporary_folders(spec.limits)
    ]
    masked = [*plan.template.masked_files, *plan.template.masked_folders]
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "cgroupsPath": group_name(spec.id),
        "maskedPaths": masked,
        "readonlyPaths": ["/proc/sys"],
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
        "root": {"path": root_folder, "readonly": False},  # it is; runc would forget nosuid and nodev in making it so
        "hostname": root.HOST_NAME,
        "mounts": mounts,
        "linux": linux,
    }


def group_name(id: str) -> str:
    """The control group that runc makes for a sandbox, below the group that the spawner has given it."""
    return f"box-{id}"


def _rlimits(plan: Plan) -> Iterator[dict[str, Any]]:
    for kind, value in inside.resource_limits(plan.request.spec.limits, plan.use_cgroups):
        yield {"type": RLIMIT_NAMES[kind], "soft": value, "hard": value}


# ------------------------------------------------------------------------------------------------ seccomp


def seccomp(machine: str) -> dict[str, Any]:
    """The allow list of `filters.generate` as runc takes it: what is not named is refused with EPERM."""
    names = sorted({name for group in generate.PLAIN.values() for name in group.split()})
    rules: list[dict[str, Any]] = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    rules.append(_refused("clone3", generate.ENOSYS))
    rules += [_refused("sync", 0), _refused("syncfs", 0)]
    rules.append(_allowed("clone", _masked(0, generate.NEW_NAMESPACES, 0)))
    rules.append(_allowed("socket", _masked(0, _WORD, 1)))
    rules += [
        _allowed("socket", _masked(0, _WORD, family), _masked(1, 0xF, kind), _masked(2, _WORD, protocol))
        for family in (2, 10)
        for kind in (1, 2)
        for protocol in (0, 6, 17)
    ]
    rules.append(_allowed("socket", _masked(0, _WORD, 16), _masked(2, _WORD, 0)))
    rules.append(_allowed("socketpair", _masked(0, _WORD, 1)))
    rules += [_allowed("ioctl", argument) for argument in _all_but(1, (0x5412, 0x541C, 0x5423))]
    rules += [_allowed("personality", _masked(0, _WORD, value)) for value in (0, _WORD)]
    rules += [_allowed("prctl", argument) for argument in _all_but(0, (1, 22, 35))]
    rules += [_allowed("setrlimit", argument) for argument in _all_but(0, (generate.RLIMIT_CORE,))]
    rules += [_allowed("prlimit64", argument) for argument in _all_but(1, (generate.RLIMIT_CORE,))]
    rules.append(_allowed("prlimit64", _masked(1, _WORD, generate.RLIMIT_CORE), _masked(2, _LONG, 0)))
    rules.append(_allowed("prctl", _masked(0, _WORD, 1), _masked(1, _WORD, 9)))
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": generate.EPERM,
        "architectures": [ARCHITECTURES[machine]],
        "syscalls": rules,
    }


def _masked(index: int, mask: int, value: int) -> dict[str, Any]:
    """An argument whose bits in `mask` are those of `value`; the upper half, which the kernel ignores, may be any."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _allowed(name: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": list(arguments)}


def _refused(name: str, number: int) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number}


def _all_but(index: int, values: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Arguments other than these 32-bit values, which differ from each other in their lowest bits only.

    A rule can compare an argument once and rules cannot exclude, so what is left is told piece by piece: a higher
    bit that differs, or the same higher bits and other lowest ones.
    """
    high = _WORD >> _LOW_BITS << _LOW_BITS
    (prefix,) = {value & high for value in values}
    for bit in range(_LOW_BITS, 32):
        mask = _WORD >> bit << bit
        yield _masked(index, mask, (prefix & mask) ^ (1 << bit))
    for low in range(1 << _LOW_BITS):
        if prefix | low not in values:
            yield _masked(index, _WORD, prefix | low)

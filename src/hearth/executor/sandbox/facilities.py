"""What isolation needs of this machine: each thing probed, with what to do when it is missing.

Used before the server starts, by `hearth doctor`, and by the spawner. Probes that change a process run in a child.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pwd
from collections.abc import Callable
from typing import Any

from hearth.executor.sandbox import cgroups, disks, docker, netlink, oci, runsc, syscalls, userns
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.spec import Facility

SECCOMP_ERRNO, SECCOMP_KILL_PROCESS = 0x0005_0000, 0x8000_0000


def seccomp_program() -> bytes:
    """The filter of this machine. Raises OSError when there is none for its architecture."""
    path = os.path.join(os.path.dirname(__file__), "filters", f"allow-{syscalls.MACHINE}.bpf")
    with open(path, "rb") as file:
        return file.read()


def to_list(facility: Facility) -> list[Any]:
    return list(dataclasses.astuple(facility))


def probe_facilities(config: SpawnerConfig) -> list[Facility]:
    """Probe this machine for the `ns` driver; blocking, well under a second, leaves nothing behind.

    To be called from a single-threaded process. As an ordinary user, what can be told only inside a user namespace is
    left out as long as there can be none.
    """
    if os.geteuid() == 0 and not config.outer_uids:
        return [Facility("root", True, "running as root"), *_common(config)]
    if os.geteuid() == 0:  # the spawner of an ordinary user
        return [Facility("userns", True, "an ordinary user's own namespace"), *_common(config)]
    found = userns.facilities(config)
    if all(one.ok for one in found):
        try:
            answer = userns.inside(
                lambda: userns.enter(config), lambda: json.dumps([to_list(one) for one in _common(config)])
            )
        except OSError as problem:
            return [*found, Facility("sandboxes", False, str(problem), "start hearth as root")]
        found += [Facility(*fields) for fields in json.loads(answer)]
    return found


def _common(config: SpawnerConfig) -> list[Facility]:
    """What is needed besides being root, of the machine or of a user namespace."""
    return [
        _mount_facility(),
        _usr_facility(),
        _process_facility(),
        _seccomp_facility(),
        _cgroup_facility(config),
        _egress_facility(),
        _uid_facility(config),
        _landlock_facility(),
        _disk_facility(),
        *([(runsc if config.has_gvisor else oci).facility(config.oci_runtime)] if config.driver == "oci" else []),
        *(docker.facility(config) if config.driver == "docker" else []),
    ]


def _in_child(probe: Callable[[], None]) -> str:
    """Run `probe` in a forked child; what it raised as text, `""` when nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            probe()
        except BaseException as problem:  # noqa: BLE001 - told to the parent
            os.write(writer, str(problem).encode(errors="replace")[:400] or b"failed")
        os._exit(0)
    os.close(writer)
    answer = b""
    with contextlib.suppress(OSError):
        answer = os.read(reader, 400)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if status and not answer:
        return f"probe ended with status {status}"
    return answer.decode(errors="replace")


def _mount_facility() -> Facility:
    def probe() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        copy = syscalls.open_tree("/usr")
        syscalls.mount_setattr(copy, "", syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID)
        syscalls.move_mount(copy, "/usr")

    problem = _in_child(probe)
    fix = "needs Linux 5.12 or newer, and CAP_SYS_ADMIN when in a container"
    return Facility("mounts", not problem, problem or "mount namespaces and the mount API work", fix)


def _usr_facility() -> Facility:
    missing = [name for name in ("/bin", "/lib", "/sbin") if not os.path.islink(name)]
    detail = f"not links into /usr: {', '.join(missing)}" if missing else "merged /usr"
    return Facility("usr", not missing, detail, "use a distribution with merged /usr (Debian 12: package usrmerge)")


def _process_facility() -> Facility:
    def probe() -> None:
        pid, pidfd = syscalls.clone(syscalls.CLONE_NEWPID)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(pidfd)
        syscalls.unshare(syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP)

    problem = _in_child(probe)
    fix = "needs a kernel with pid, ipc, uts and cgroup namespaces, and clone3"
    return Facility("namespaces", not problem, problem or "pid, ipc, uts and cgroup namespaces", fix)


def _seccomp_facility() -> Facility:
    fix = "needs a kernel with CONFIG_SECCOMP_FILTER on x86-64 or arm64"
    try:
        program = seccomp_program()
    except OSError:
        return Facility("seccomp", False, f"no filter for {syscalls.MACHINE}", fix, "seccomp")
    if not all(map(syscalls.seccomp_action_available, (SECCOMP_ERRNO, SECCOMP_KILL_PROCESS))):
        return Facility("seccomp", False, "the kernel has no seccomp filters", fix, "seccomp")

    def probe() -> None:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.load_seccomp(program)

    problem = _in_child(probe)
    return Facility("seccomp", not problem, problem or f"allow list for {syscalls.MACHINE}", fix, "seccomp")


def _cgroup_facility(config: SpawnerConfig) -> Facility:
    """Try to make a group with limits, under a name of its own so that a running server is not disturbed."""
    fix = (
        "memory, cpu and pids controllers must be writable: run as a systemd service with Delegate=yes, "
        "or give the container a writable cgroup"
    )
    detail = ""
    try:
        groups = cgroups.Cgroups(f"{config.group_name()}-probe-{os.getpid()}")
        try:
            groups.prepare((os.getpid(),))
            group = groups.create("probe", 64 << 20, 1.0, 16)
            if group.oom_event_fd >= 0:
                os.close(group.oom_event_fd)
            groups.remove(group)
        finally:
            groups.close()
        kinds = sorted({"v2" if one.unified else "v1" for one in groups.hierarchies})
        detail = f"limits work ({' and '.join(kinds)})"
    except (OSError, cgroups.CgroupError) as problem:
        return Facility("cgroups", False, str(problem), fix, "cgroups")
    return Facility("cgroups", True, detail, fix, "cgroups")


def _egress_facility() -> Facility:
    def probe() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        listener, dns = netlink.open_gate_sockets()
        listener.close()
        dns.close()

    problem = _in_child(probe)
    fix = "needs network namespaces and nf_tables with nat: modprobe nf_tables nft_chain_nat nft_redir nft_reject_ipv4"
    return Facility("egress", not problem, problem or "nf_tables redirect works", fix, "egress")


def _uid_facility(config: SpawnerConfig) -> Facility:
    if config.outer_uids:
        return Facility("uids", True, f"{config.uid_count} subordinate ids")
    wanted = range(config.uid_first, config.uid_first + config.uid_count)
    taken = [user.pw_name for user in pwd.getpwall() if user.pw_uid in wanted]
    span = f"{wanted.start}-{wanted.stop - 1}"
    if taken:
        detail = f"uids {span} belong to {', '.join(taken[:3])}"
        return Facility("uids", False, detail, "set another range for sandboxes (uid_first, uid_count)")
    shared = _subordinate_users(wanted)
    note = f"; also subordinate ids of {', '.join(shared)}" if shared else ""
    return Facility("uids", True, f"uids {span} are free{note}")


def _subordinate_users(wanted: range) -> list[str]:
    """Users whose /etc/subuid range overlaps: their containers' processes could share a uid with a sandbox."""
    users = []
    with contextlib.suppress(OSError, ValueError), open("/etc/subuid") as file:
        for line in file.read().splitlines():
            name, first, count = line.split(":")
            if int(first) < wanted.stop and int(first) + int(count) > wanted.start:
                users.append(name)
    return users


def _disk_facility() -> Facility:
    problem = _in_child(disks.probe)
    fix = "optional: needs loop devices (modprobe loop) and mkfs.ext4 (package e2fsprogs); without, builds are watched"
    return Facility("disks", not problem, problem or "builds get disks of a fixed size", fix, mandatory=False)


def _landlock_facility() -> Facility:
    abi = syscalls.landlock_abi()
    detail = f"version {abi}" if abi else os.strerror(errno.EOPNOTSUPP)
    fix = "optional: add landlock to the kernel's lsm= list for a second layer behind the mounts"
    return Facility("landlock", abi > 0, detail, fix, mandatory=False)

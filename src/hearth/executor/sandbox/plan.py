"""What the spawner makes ready for the first process of a sandbox, and what that process says back."""

from collections.abc import Sequence
from dataclasses import dataclass

from hearth.executor.sandbox import root
from hearth.executor.sandbox.messages import StartRequest

GO, ENTERED, SOCKETS, MEMINFO, FAILED, BLANK = b"g", b"x", b"s", b"m", b"!", b"b"
"""On the report socket: parent's "you are in your cgroup"; about to exec; the gate's sockets; the file shown as
/proc/meminfo; a step failed; ready, and waiting to be told what for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the first process needs, made ready by the spawner beforehand."""

    request: StartRequest
    uid: int
    """Who the program is, and whose its files are."""
    host_uid: int
    """Whose the processes are that it runs in on this machine: another with gVisor, else the same."""
    server_uid: int
    uid_range: range
    mounts: Sequence[root.OpenMount]
    descriptors: Sequence[int]
    """Output pipe, channel if there is one, then one per number of the request."""
    null_fd: int
    template: root.Template
    seccomp: bytes
    """The filter's bytes, empty when seccomp is weakened."""
    landlock_abi: int
    use_cgroups: bool
    use_gate: bool
    oci_root: str
    """Where the driver `oci` has assembled the root folder; `""` with `ns`, which has `template`."""
    own_addresses: Sequence[bytes]
    """The host's own IPv4 addresses, packed; refused by the sandbox's firewall."""

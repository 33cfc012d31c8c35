"""What a sandbox is asked to be, and what a driver promises. Knows nothing of functions or deployments.

A driver (`ns`, `oci` or `docker`) starts one isolated process tree per `SandboxSpec`. The executor and the
builder speak to drivers through these types only.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Network(StrEnum):
    """What a sandbox may reach. There is never more than its own loopback and the egress gate."""

    NONE = "none"
    GATE = "gate"


class Profile(StrEnum):
    """What a sandbox is for; the driver tunes masks, limits and names by it."""

    RUN = "run"
    BUILD = "build"
    EXTRACT = "extract"


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder or file shown inside at `target`; always nosuid and nodev.

    Read-only unless `writable`; a writable source is a folder below the data folder that the driver creates
    if need be and gives to the sandbox's own uid.
    """

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of one sandbox, processes and children together."""

    memory_bytes: int
    cpus: float
    pids: int = 256
    tmp_bytes: int = 64 * 1024 * 1024
    tmp_inodes: int = 16_384
    open_files: int = 4_096
    file_size_bytes: int | None = None
    """Largest single file it may write (RLIMIT_FSIZE); None = no limit."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One sandbox. `id` is unique per start: 1-60 chars of `a-z0-9-`.

    `argv[0]` is an absolute path inside. `environment` is the whole environment and holds no secrets (they
    go over the channel). `descriptors` are passed through: number inside -> open descriptor of the caller
    (which stays the caller's to close). Inside, 0 is /dev/null, 1 and 2 are `Sandbox.output`, 3 is the channel.
    """

    id: str
    profile: Profile
    argv: Sequence[str]
    environment: Mapping[str, str]
    limits: Limits
    mounts: Sequence[Mount] = ()
    network: Network = Network.NONE
    egress: tuple[str, ...] | None = None
    """With a gate, what of everything allowed this one may reach (see `Sandbox.limit_egress`); None = everything."""
    working_folder: str = "/"
    descriptors: Mapping[int, int] = field(default_factory=dict)
    channel: bool = True
    mount_point: str = ""
    """An empty folder to make inside, at which something is mounted after the start (`Sandbox.mount`); "" = none."""
    root: str = ""
    """A host folder whose `usr` and `etc` are seen inside instead of the host's (a Debian suite); "" = the host's.

    Below a folder that may be shown, and its owner root, or the ordinary user who runs the server."""
    image: str = ""
    """The Docker image that is its system, one of those the driver was told of; `""` = none. With one, variables that
    the image sets are added to `environment`, and its PATH is taken instead of the one here."""
    scratch: tuple[str, ...] = ()
    """Folders inside, of one with an image, that are empty and can be written; what is in them counts as memory."""


@dataclass(frozen=True, slots=True)
class SandboxExit:
    """How a sandbox ended. Exactly one of `code` and `signal` is set; -1 in `code` when it was lost.

    `out_of_memory` and `pids_exhausted` say that the kernel enforced that limit at least once.
    """

    code: int | None
    signal: int | None
    out_of_memory: bool = False
    pids_exhausted: bool = False
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


class Meter(Protocol):
    """What one sandbox has used so far. None = that is not counted here, or the sandbox has ended."""

    def cpu_s(self) -> float | None:
        """CPU time of all its processes, those that have ended included, in seconds."""

    def peak_memory_bytes(self) -> int | None:
        """The most memory it has used at any time."""


class SandboxFailed(Exception):
    """The sandbox could not be started: the step that failed and why. Nothing of it is left."""


class Sandbox(Protocol):
    """A started sandbox. Whoever started it must `kill` or `wait` for it; both leave nothing behind."""

    id: str
    channel: socket.socket | None
    """Our end of the stream socket that is descriptor 3 inside; non-blocking, the caller's to close."""
    output: int
    """Read end of the pipe that is stdout and stderr inside; non-blocking, the caller's to close."""

    @property
    def meter(self) -> Meter | None:
        """Tells what it has used so far, while it runs; None where the driver cannot tell. The driver's to close."""

    async def wait(self) -> SandboxExit:
        """Wait for the end of the first process; everything else in it is ended with it."""

    async def kill(self) -> SandboxExit:
        """End every process at once and return how it ended; fine to call on one that has ended."""

    async def freeze(self, frozen: bool) -> None:
        """Stop or continue all its processes (no CPU time while frozen)."""

    async def mount(self, mount: Mount) -> None:
        """Show a host folder read-only at the `mount_point` the sandbox was started with; possible once.

        What runs inside sees it from then on and cannot undo it. Raises SandboxFailed; then, or if cancelled, it is
        not known whether the folder is there, and the sandbox should be ended.
        """

    async def retune(self, limits: Limits) -> None:
        """Change the limits of a sandbox started with a `mount_point`, for what it is to run.

        Open files and file size stay as they were at the start, and processes do not become more. Raises
        SandboxFailed, also when it already uses more than `limits` allow; some may have changed then.
        """

    async def limit_egress(self, allow: Sequence[str]) -> None:
        """From the return on, let it reach only what the list names, within what is allowed to all.

        `allow` has `host:port` and networks with an optional port; empty = nothing. Connections that are open end.
        Raises SandboxFailed, also for a sandbox without a gate; it should be ended then.
        """


@dataclass(frozen=True, slots=True)
class Facility:
    """One thing of the machine that isolation needs: is it there, and if not, what to do about it.

    `flag` is the name `--weaken=` takes to go on without it; `""` when that is not possible.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    flag: str = ""
    mandatory: bool = True


class Driver(Protocol):
    """Starts sandboxes. Safe for concurrent use by one event loop."""

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox. Raises SandboxFailed. If cancelled, what was started is ended first."""

    async def make_disk(self, path: str, size_bytes: int) -> bool:
        """Make `path`, a missing folder below the data folder, a disk of its own, bounded in bytes and files.

        Writable mounts with a source below `path` are on it from then on; `remove_tree` of it, or above, gives it
        back. False when this machine cannot (facility `disks`); the sources are plain folders then. Raises
        SandboxFailed.
        """

    async def remove_tree(self, path: str) -> None:
        """Delete a folder below the data folder that sandboxes wrote (their files belong to other uids)."""

    async def facilities(self) -> Sequence[Facility]: ...

    async def close(self) -> None:
        """End every sandbox of this driver."""

"""Which sandbox an instance or a stem cell is. Secrets are not in it: they go over the channel."""

import secrets
from collections.abc import Sequence

from hearth.executor.limits import MIB
from hearth.executor.sandbox.spec import Limits, Mount, Network, Profile, SandboxSpec
from hearth.executor.stems import StemKind
from hearth.model.running import InstanceTemplate
from hearth.runtimes.locations import CODE_INSIDE, SERVER_INSIDE, SHIMS_FOLDER, SHIMS_INSIDE
from hearth.runtimes.packs import Pack

#: What Node needs besides its heap, MB (measured: 40 to 45 with a small function).
NODE_BESIDE_HEAP_MB = 48
#: Families whose process is told its memory at its start and cannot be told another later (measured: V8 takes
#: `--max-old-space-size` only before the heap is made, not through `v8.setFlagsFromString`).
SIZED_FAMILIES = frozenset({"node"})


def run_limits(template: InstanceTemplate) -> Limits:
    """The limits of an instance."""
    return Limits(memory_bytes=template.memory_mb * MIB, cpus=template.cpus)


def code_mount(code: str) -> Mount:
    """How an instance is shown its code."""
    return Mount(code, CODE_INSIDE)


def instance_spec(instance_id: int, template: InstanceTemplate, pack: Pack, code: str) -> SandboxSpec:
    """The sandbox of an instance that is started for one deployment."""
    command = _command(pack, template.memory_mb)
    return _spec(f"run-{secrets.token_hex(6)}-{instance_id}", pack, command, run_limits(template), (code_mount(code),))


def stem_spec(stem_id: int, kind: StemKind, pack: Pack, limits: Limits) -> SandboxSpec:
    """The sandbox of a stem cell: the same, but for the code. `limits` are a guess at those of its later instance."""
    command = _command(pack, kind.memory_mb)
    return _spec(f"stem-{secrets.token_hex(6)}-{stem_id}", pack, command, limits, (), CODE_INSIDE)


def stem_kind(template: InstanceTemplate, pack: Pack) -> StemKind:
    """The kind of stem that can become an instance of this template."""
    return StemKind(template.runtime, template.memory_mb if pack.family in SIZED_FAMILIES else 0)


def _command(pack: Pack, memory_mb: int) -> Sequence[str]:
    command = list(pack.shim)
    if pack.family == "node":
        # Node cannot see the sandbox's limit; told, it collects garbage in time.
        command.insert(1, f"--max-old-space-size={max(NODE_BESIDE_HEAP_MB, memory_mb - NODE_BESIDE_HEAP_MB)}")
    return command


def _spec(
    id: str, pack: Pack, command: Sequence[str], limits: Limits, mounts: Sequence[Mount], mount_point: str = ""
) -> SandboxSpec:
    own = {"PATH": ":".join(pack.path), "HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - inside
    return SandboxSpec(
        id=id,
        profile=Profile.RUN,
        argv=command,
        environment={**own, **pack.environment},
        limits=limits,
        mounts=(
            *(Mount(source, target) for source, target in pack.mounts),
            Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
            *mounts,
        ),
        network=Network.GATE,
        working_folder=SERVER_INSIDE,
        mount_point=mount_point,
    )

"""Which sandbox an instance or a stem cell is. Secrets are not in it: they go over the channel."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from hearth.executor.limits import MIB
from hearth.executor.sandbox.spec import Limits, Mount, Network, Profile, SandboxSpec
from hearth.executor.stems import StemKind
from hearth.model.function_settings import Egress
from hearth.model.running import InstanceTemplate
from hearth.runtimes.families import OPEN_RUNTIMES, family_of
from hearth.runtimes.locations import (
    CODE_BESIDE_SERVER,
    CODE_INSIDE,
    SERVER_INSIDE,
    SHIMS_FOLDER,
    SHIMS_INSIDE,
    WRITTEN_BY_SERVER,
)
from hearth.runtimes.packs import Pack


def run_limits(template: InstanceTemplate) -> Limits:
    """The limits of an instance."""
    return Limits(memory_bytes=template.memory_mb * MIB, cpus=template.cpus)


def egress_list(template: InstanceTemplate) -> tuple[str, ...] | None:
    """What an instance may reach of everything that is allowed; None = all of it."""
    if template.egress is Egress.DEFAULT:
        return None
    return template.egress_allow if template.egress is Egress.LIST else ()


def code_mount(code: str, pack: Pack) -> Mount:
    """How an instance is shown its code."""
    return Mount(code, _code_folder(pack))


def _code_folder(pack: Pack) -> str:
    return CODE_BESIDE_SERVER if pack.family == OPEN_RUNTIMES else CODE_INSIDE


def instance_spec(instance_id: int, template: InstanceTemplate, pack: Pack, code: str) -> SandboxSpec:
    """The sandbox of an instance that is started for one deployment."""
    command = _command(pack, template.memory_mb)
    spec = _spec(
        f"run-{secrets.token_hex(6)}-{instance_id}", pack, command, run_limits(template), (code_mount(code, pack),)
    )
    return replace(spec, egress=egress_list(template))


def stem_spec(stem_id: int, kind: StemKind, pack: Pack, limits: Limits) -> SandboxSpec:
    """The sandbox of a stem cell: the same, but for the code. `limits` are a guess at those of its later instance."""
    command = _command(pack, kind.memory_mb)
    return _spec(f"stem-{secrets.token_hex(6)}-{stem_id}", pack, command, limits, (), _code_folder(pack))


def stem_kind(template: InstanceTemplate, pack: Pack) -> StemKind:
    """The kind of stem that can become an instance of this template."""
    return StemKind(template.runtime, template.memory_mb if family_of(pack.family).memory_flag else 0)


def _command(pack: Pack, memory_mb: int) -> Sequence[str]:
    family = family_of(pack.family)
    if not family.memory_flag:
        return pack.shim
    # Neither V8 nor a Java machine can see the sandbox's limit; told, they collect garbage in time. They take this only
    # before their heap is made (measured for V8: not through `v8.setFlagsFromString`).
    heap_mb = max(family.beside_heap_mb, memory_mb - family.beside_heap_mb)
    command = list(pack.shim)
    behind = len(family.before_shim) + 1 + len(family.arguments)
    command.insert(len(command) - behind, family.memory_flag.format(mb=heap_mb))
    return command


def _spec(
    id: str, pack: Pack, command: Sequence[str], limits: Limits, mounts: Sequence[Mount], mount_point: str = ""
) -> SandboxSpec:
    path = ":".join(dict.fromkeys((*pack.path, "/usr/bin", "/bin")))
    own = {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - inside
    return SandboxSpec(
        id=id,
        profile=Profile.RUN,
        argv=command,
        environment={**own, **family_of(pack.family).environment, **pack.environment},
        limits=limits,
        mounts=(
            *(Mount(source, target) for source, target in pack.mounts),
            Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
            *mounts,
        ),
        network=Network.GATE,
        working_folder=SERVER_INSIDE,
        mount_point=mount_point,
        root=pack.root,
        image=pack.image,
        scratch=WRITTEN_BY_SERVER if pack.family == OPEN_RUNTIMES else (),
    )

"""A real `ns` driver for tests: spawner and gate of its own, no API behind the gate. Needs root."""

import os
import sys
from pathlib import Path

import hearth
from hearth.executor.sandbox.config import GateConfig, SpawnerConfig
from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.runtimes.locations import SHIMS_FOLDER
from tests.support.interpreters import PACKS
from tests.support.uids import first_uid

#: Away from the range of a server that may run on the same machine, and from that of the isolation tests.
FIRST_UID = first_uid(110_000)
GATE_UID = 61_300


def ns_driver(data_folder: Path) -> NsDriver:
    """A driver whose sandboxes may be shown `data_folder` and the shims. Call it inside the event loop."""
    package = Path(hearth.__file__).resolve().parent
    spawner = start_spawner(
        SpawnerConfig(
            data_folder=str(data_folder),
            server_uid=os.getuid(),
            server_gid=os.getgid(),
            read_only_bases=(str(SHIMS_FOLDER), *([str(PACKS)] if PACKS.is_dir() else [])),
            uid_first=FIRST_UID,
            uid_count=1_000,
        )
    )
    gate = start_gate(GateConfig(uid=GATE_UID, gid=GATE_UID, keep=(sys.prefix, sys.base_prefix, str(package.parent))))
    return NsDriver(spawner, gate)

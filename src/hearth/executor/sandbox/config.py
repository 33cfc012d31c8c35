"""What the spawner and the gate are told at their start. Read by both processes, so stdlib only."""

import contextlib
import dataclasses
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

API_PSEUDO_ADDRESS = "169.254.100.1"
"""The address (port 80) at which a sandbox finds the platform's own API; `hearth.internal` in its hosts file."""
API_PSEUDO_PORT = 80
API_NAME = "hearth.internal"

HOST_PSEUDO_ADDRESS = "169.254.100.127"
"""Where a sandbox finds the host's 127.0.0.1, on the ports that the operator's list opens there and no others."""


def _sha256(data: bytes) -> str:
    """As `hashlib` makes it, which would bring OpenSSL: 3 MB of the spawner and of what it copies itself for."""
    for name in ("_sha2", "_sha256"):  # since Python 3.12, and before
        with contextlib.suppress(ImportError):
            return str(importlib.import_module(name).sha256(data).hexdigest())
    return str(importlib.import_module("hashlib").sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class SpawnerConfig:
    """Bounds of what the spawner does for the API process, fixed for its life.

    `data_folder` and `read_only_bases` (the package, interpreters) exist: what a sandbox is shown is one of them or
    lies below one. Files of the data folder belong to `server_uid`/`server_gid`, the API process's own.
    Sandboxes get host uids and gids from `uid_first` on, `uid_count` of them. `weaken` names facilities to go on
    without (`Facility.flag`).
    """

    data_folder: str
    server_uid: int
    server_gid: int
    read_only_bases: tuple[str, ...] = ()
    uid_first: int = 200_000
    uid_count: int = 65_536
    sandboxes_max: int = 1_024
    start_timeout_s: float = 15.0
    weaken: tuple[str, ...] = ()
    outer_uids: tuple[int, ...] = ()
    """Empty for a server started by root. For one of an ordinary user: (first, count) of the subordinate uids that are
    1, 2, ... in the spawner's user namespace, to which all other ids here belong; 0 there is the user himself."""
    outer_gids: tuple[int, ...] = ()
    driver: str = "ns"
    """How sandboxes are made: `ns`, by the spawner itself; `oci`, by runc or runsc; `docker`, those with an image by
    Docker."""
    oci_runtime: str = "/usr/sbin/runc"
    """The program that makes sandboxes with the driver `oci`: a path whose last part is `runc` or `runsc`."""
    blanks: int = 0
    """Sandboxes kept ready that hold no program yet (not with the driver `oci`, nor of images)."""
    docker_socket: str = "/var/run/docker.sock"
    images: tuple[str, ...] = ()
    """The Docker images that sandboxes may be made of."""
    use_disks: bool = True
    """Whether builds get disks of their own where the machine can make them; off in tests of what is done without."""

    @property
    def has_gvisor(self) -> bool:
        """Whether sandboxes have a kernel of their own, gVisor's."""
        return self.driver == "oci" and os.path.basename(self.oci_runtime) == "runsc"

    def group_name(self) -> str:
        """Name of the cgroup that holds this server's sandboxes: one per data folder, the same after a crash."""
        return "hearth-" + _sha256(os.fsencode(os.path.realpath(self.data_folder)))[:12]


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What the egress gate may let through, and as whom it runs.

    `allow` are the operator's entries (`host:port`, address or CIDR with optional `:port`), `registry_hosts` are
    `host:port` names of package registries, `api` is the (address, port) where this server's API listens. `keep`
    are the paths of the interpreter and package that must stay reachable for `uid`. `nameservers` replaces those of
    /etc/resolv.conf (each `address` or `address:port`). `network_namespace`, a path like /proc/PID/ns/net, is where
    connections go out instead of the host's: for tests with a made-up internet.
    """

    uid: int
    gid: int
    keep: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    registry_hosts: tuple[str, ...] = ()
    api: tuple[str, int] | None = None
    nameservers: tuple[str, ...] = ()
    network_namespace: str = ""
    connections_per_sandbox: int = 256
    dns_queries_per_s: int = 50
    dns_waiting_per_sandbox: int = 64
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 900.0
    dns_timeout_s: float = 4.0
    refresh_s: float = 15.0
    """How often the host's own addresses and the names of the two lists are looked up again."""


def to_json(config: SpawnerConfig | GateConfig) -> bytes:
    return json.dumps(dataclasses.asdict(config)).encode()


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def spawner_config(data: bytes) -> SpawnerConfig:
    return SpawnerConfig(**_tuples(json.loads(data)))


def gate_config(data: bytes) -> GateConfig:
    return GateConfig(**_tuples(json.loads(data)))

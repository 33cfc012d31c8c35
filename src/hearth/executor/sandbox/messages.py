"""The messages between driver and spawner, and the checks the spawner makes on them.

One JSON object per SOCK_SEQPACKET datagram. The API process is the less trusted side: whatever it sends is checked
here against the bounds of the spawner's own configuration before anything is done.
"""

import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.spec import Limits, Mount, Network, Profile, SandboxSpec

MESSAGE_BYTES = 160 * 1024
DESCRIPTORS_MAX = 16
OPENED_MAX = 256
"""Networks at most that a sandbox's firewall is told to pass on to the gate."""
TARGET_FOLDERS = ("/mnt", "/opt", "/usr/local")
SCRATCH_MAX = 8
FIRST_EXTRA_DESCRIPTOR, LAST_EXTRA_DESCRIPTOR = 4, 63

_ID = re.compile(r"[a-z0-9-]{1,60}\Z")
_ENVIRONMENT_NAME = re.compile(r"[^=\0]{1,256}\Z")


class BadMessage(Exception):
    """A message of the API process that the spawner does not follow; the text says which rule it broke."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A checked start message: the sandbox, without its descriptors, and the numbers these get inside.

    The datagram carries the output pipe, then the channel if there is one, then a descriptor per number.
    """

    spec: SandboxSpec
    numbers: tuple[int, ...]
    opened: tuple[tuple[bytes, int], ...]
    """IPv4 networks (address, prefix length) beyond the public ones that the gate may let through."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Raises BadMessage when the message is too large for one datagram."""
    data = json.dumps(message, separators=(",", ":")).encode("utf-8", "surrogateescape")
    if len(data) > MESSAGE_BYTES:
        raise BadMessage(f"message of {len(data)} bytes, more than {MESSAGE_BYTES}")
    return data


def decode(data: bytes) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except ValueError as problem:
        raise BadMessage(f"not JSON: {problem}") from problem
    if not isinstance(message, dict):
        raise BadMessage("not an object")
    return message


def start_message(sequence: int, spec: SandboxSpec, opened: Sequence[str] = ()) -> dict[str, Any]:
    """What the driver sends for a start."""
    return {
        "op": "start",
        "seq": sequence,
        "id": spec.id,
        "profile": spec.profile.value,
        "argv": list(spec.argv),
        "environment": dict(spec.environment),
        "limits": _limits_fields(spec.limits),
        "mounts": [_mount_fields(mount) for mount in spec.mounts],
        "network": spec.network.value,
        "opened": list(opened),
        "working_folder": spec.working_folder,
        "descriptors": list(spec.descriptors),
        "channel": spec.channel,
        "mount_point": spec.mount_point,
        "root": spec.root,
        "image": spec.image,
        "scratch": list(spec.scratch),
    }


def mount_message(id: str, mount: Mount) -> dict[str, Any]:
    """What the driver sends to mount something into a running sandbox."""
    return {"op": "mount", "id": id, "mount": _mount_fields(mount)}


def retune_message(id: str, limits: Limits) -> dict[str, Any]:
    """What the driver sends to change the limits of a running sandbox."""
    return {"op": "retune", "id": id, "limits": _limits_fields(limits)}


def _mount_fields(mount: Mount) -> list[Any]:
    return [mount.source, mount.target, mount.writable]


def _limits_fields(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in Limits.__dataclass_fields__}


# ---------------------------------------------------------------------------------------------- checks


def _need(condition: bool, rule: str) -> None:
    if not condition:
        raise BadMessage(rule)


def text(value: Any, what: str, longest: int = 4_096) -> str:
    """A string without NUL of at most `longest` characters; every path and argument passes here."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        raise BadMessage(f"{what}: not a string of up to {longest} characters")
    return value


def number(value: Any, what: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadMessage(f"{what}: not a number from {low} to {high}")
    return value


def whole(value: Any, what: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadMessage(f"{what}: not a whole number from {low} to {high}")
    return value


def sandbox_id(value: Any) -> str:
    checked = text(value, "id", 60)
    _need(_ID.match(checked) is not None, "id: not 1-60 characters of a-z0-9-")
    return checked


def plain_path(value: Any, what: str) -> str:
    """An absolute path in its shortest form (no `..`, `.`, doubled or trailing slash)."""
    path = text(value, what)
    _need(path.startswith("/") and not path.startswith("//") and os.path.normpath(path) == path, f"{what}: {path!r}")
    return path


def below(path: str, folder: str, itself: bool = False) -> bool:
    """Whether `path` lies below `folder` (both in shortest form), or is it."""
    return path.startswith(folder.rstrip("/") + "/") or (itself and path == folder)


def data_path(value: Any, config: SpawnerConfig, what: str) -> str:
    path = plain_path(value, what)
    _need(below(path, config.data_folder), f"{what}: {path!r} is not below the data folder")
    return path


def _shown_path(value: Any, config: SpawnerConfig, what: str) -> str:
    """A host path that sandboxes may be shown."""
    path = plain_path(value, what)
    allowed = below(path, config.data_folder) or any(below(path, base, itself=True) for base in config.read_only_bases)
    _need(allowed, f"{what}: {path!r} is below no folder that sandboxes may be shown")
    return path


def _target(value: Any, what: str) -> str:
    target = plain_path(value, what)
    _need(
        any(below(target, folder, itself=True) for folder in TARGET_FOLDERS),
        f"{what}: {target!r} is not below {', '.join(TARGET_FOLDERS)}",
    )
    return target


def _mount(value: Any, config: SpawnerConfig) -> Mount:
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[2], bool):
        raise BadMessage("mount: not [source, target, writable]")
    target = _target(value[1], "mount target")
    if value[2]:
        return Mount(data_path(value[0], config, "writable mount source"), target, True)
    return Mount(_shown_path(value[0], config, "mount source"), target)


def _limits(value: Any) -> Limits:
    if not isinstance(value, dict) or value.keys() != set(Limits.__dataclass_fields__):
        raise BadMessage("limits: wrong fields")
    largest_file = value["file_size_bytes"]
    return Limits(
        memory_bytes=whole(value["memory_bytes"], "memory_bytes", 16 << 20, 1 << 42),
        cpus=float(number(value["cpus"], "cpus", 0.01, 1_024)),
        pids=whole(value["pids"], "pids", 1, 100_000),
        tmp_bytes=whole(value["tmp_bytes"], "tmp_bytes", 4_096, 1 << 40),
        tmp_inodes=whole(value["tmp_inodes"], "tmp_inodes", 16, 1 << 26),
        open_files=whole(value["open_files"], "open_files", 16, 1 << 20),
        file_size_bytes=None if largest_file is None else whole(largest_file, "file_size_bytes", 0, 1 << 50),
    )


def _sequence(value: Any, what: str, longest: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise BadMessage(f"{what}: not a list of up to {longest}")
    return value


def _network(value: Any) -> tuple[bytes, int]:
    address, _, length = text(value, "opened", 40).partition("/")
    try:
        packed = socket.inet_pton(socket.AF_INET, address)
    except OSError as problem:
        raise BadMessage(f"opened: {value!r} is no IPv4 network") from problem
    _need(length.isascii() and length.isdecimal() and int(length) <= 32, f"opened: {value!r} is no IPv4 network")
    return packed, int(length)


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 1_024:
        raise BadMessage("environment: not an object of up to 1024")
    for name, content in value.items():
        _need(_ENVIRONMENT_NAME.match(name) is not None, "environment: bad name")
        text(content, f"environment {name}", 65_536)
    return dict(value)


def disk_request(message: Mapping[str, Any], config: SpawnerConfig) -> tuple[str, int]:
    """Check a request for a disk: the path it stands for and its size in bytes. Raises BadMessage."""
    _need(message.keys() == {"op", "seq", "path", "size_bytes"}, "make_disk: wrong fields")
    return data_path(message["path"], config, "path"), whole(message["size_bytes"], "size_bytes", 8 << 20, 1 << 44)


def start_request(message: Mapping[str, Any], config: SpawnerConfig, descriptors: int) -> StartRequest:
    """Check a start message that came with `descriptors` descriptors. Raises BadMessage."""
    expected = {
        *("op", "seq", "id", "profile", "argv", "environment", "limits"),
        *("mounts", "network", "opened", "working_folder", "descriptors", "channel"),
        *("mount_point", "root", "image", "scratch"),
    }
    _need(message.keys() == expected, "start: wrong fields")
    argv = tuple(text(item, "argv", 65_536) for item in _sequence(message["argv"], "argv", 256))
    _need(bool(argv), "argv: empty")
    plain_path(argv[0], "argv[0]")
    numbers = tuple(
        whole(item, "descriptor", FIRST_EXTRA_DESCRIPTOR, LAST_EXTRA_DESCRIPTOR)
        for item in _sequence(message["descriptors"], "descriptors", DESCRIPTORS_MAX - 2)
    )
    _need(len(set(numbers)) == len(numbers), "descriptors: one twice")
    channel = message["channel"]
    _need(isinstance(channel, bool), "channel: not true or false")
    _need(descriptors == 1 + channel + len(numbers), "descriptors: not as many as announced")
    try:
        profile, network = Profile(message["profile"]), Network(message["network"])
    except ValueError as problem:
        raise BadMessage(str(problem)) from problem
    spec = SandboxSpec(
        id=sandbox_id(message["id"]),
        profile=profile,
        argv=argv,
        environment=_environment(message["environment"]),
        limits=_limits(message["limits"]),
        mounts=tuple(_mount(item, config) for item in _sequence(message["mounts"], "mounts", 32)),
        network=network,
        working_folder=plain_path(message["working_folder"], "working_folder"),
        channel=channel,
        mount_point=_target(message["mount_point"], "mount_point") if message["mount_point"] != "" else "",
        root=_shown_path(message["root"], config, "root") if message["root"] != "" else "",
        image=text(message["image"], "image", 512),
        scratch=tuple(_target(item, "scratch") for item in _sequence(message["scratch"], "scratch", SCRATCH_MAX)),
    )
    _need(
        not spec.mount_point or not any(below(mount.target, spec.mount_point, itself=True) for mount in spec.mounts),
        "mount_point: something is mounted there from the start",
    )
    _need(spec.image in ("", *config.images), "image: not one of the configured images")
    _need(not (spec.image and spec.root), "image: a root besides")
    _need(bool(spec.image) or not spec.scratch, "scratch: no image")
    mounted = {mount.target for mount in spec.mounts} | {spec.mount_point}
    for folder in spec.scratch:
        _need(not any(below(one, folder, itself=True) for one in mounted), f"scratch: something is mounted in {folder}")
    opened = tuple(_network(item) for item in _sequence(message["opened"], "opened", OPENED_MAX))
    return StartRequest(spec, numbers, opened)


def mount_request(message: Mapping[str, Any], config: SpawnerConfig) -> tuple[str, Mount]:
    """Check a mount message: the sandbox's id and what it is to be shown. Raises BadMessage."""
    _need(message.keys() == {"op", "seq", "id", "mount"}, "mount: wrong fields")
    mount = _mount(message["mount"], config)
    _need(not mount.writable, "mount: only a read-only one is possible after the start")
    return sandbox_id(message["id"]), mount


def retune_request(message: Mapping[str, Any]) -> tuple[str, Limits]:
    """Check a retune message: the sandbox's id and its new limits. Raises BadMessage."""
    _need(message.keys() == {"op", "seq", "id", "limits"}, "retune: wrong fields")
    return sandbox_id(message["id"]), _limits(message["limits"])

"""What runsc is told: the rules for system calls in its order, who is who, and what its kernel and ours each limit."""

import json
from pathlib import Path
from typing import Any

import pytest

from hearth.executor.sandbox import root, runsc
from hearth.executor.sandbox.filters import generate
from hearth.executor.sandbox.messages import StartRequest
from hearth.executor.sandbox.oci_config import ARCHITECTURES
from hearth.executor.sandbox.plan import Plan
from hearth.executor.sandbox.runsc_config import document, seccomp
from hearth.executor.sandbox.spec import Limits, Profile, SandboxSpec

RULES = seccomp("x86_64")
LIMITS = Limits(memory_bytes=128 << 20, cpus=1.0, pids=40)
VERDICTS = {"SCMP_ACT_ALLOW": "allow", "SCMP_ACT_ERRNO": "refuse", "SCMP_ACT_TRACE": "not there"}


def verdict(name: str, *arguments: int) -> str:
    """What the rules say to a call: the first that fits, as runsc takes them."""
    for rule in RULES["syscalls"]:
        conditions = rule.get("args", [])
        if name in rule["names"] and all(
            arguments[one["index"]] & one["value"] == one["valueTwo"] for one in conditions
        ):
            return VERDICTS[rule["action"]]
    return VERDICTS[RULES["defaultAction"]]


def test_the_calls_of_our_own_list_are_allowed_and_all_others_are_refused_or_unknown() -> None:
    plain = {name for group in generate.PLAIN.values() for name in group.split()} - {"mknod", "mknodat"}
    assert {verdict(name) for name in plain} == {"allow"}
    known = generate.numbers("x86_64").keys() - plain - generate.RULES.keys() - {"mknod", "mknodat"}
    assert {verdict(name) for name in known} == {"refuse"}
    assert {"mount", "bpf", "unshare", "setns", "ptrace", "io_uring_setup"} <= known
    assert verdict("a_call_of_tomorrow") == verdict("clone3") == "not there", "so that a C library falls back"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("clone", 17), "allow"),
        (("clone", 0x1000_0000 | 17), "refuse"),
        (("ioctl", 0, 0x5412), "refuse"),
        (("ioctl", 0, 1 << 32 | 0x5412), "refuse"),
        (("ioctl", 0, 0x5411), "allow"),
        (("prctl", 1, 9), "allow"),
        (("prctl", 1, 0), "refuse"),
        (("prctl", 22, 2), "refuse"),
        (("prctl", 15, 0), "allow"),
        (("mknod", 0, 0o010644), "allow"),
        (("mknod", 0, 0o020644), "refuse"),
        (("mknodat", 0, 0, 0o060644), "refuse"),
        (("socket", 1, 1, 0), "allow"),
        (("socket", 2, 0x80801, 6), "allow"),
        (("socket", 2, 3, 1), "refuse"),
        (("socket", 17, 3, 768), "refuse"),
        (("personality", 0x0040000), "refuse"),
        (("personality", 0xFFFF_FFFF), "allow"),
    ],
)
def test_rules_that_look_at_arguments(call: tuple[Any, ...], expected: str) -> None:
    assert verdict(*call) == expected


def test_there_are_rules_for_both_machines() -> None:
    for machine, name in ARCHITECTURES.items():
        assert seccomp(machine)["architectures"] == [name]


def plan(**changes: Any) -> Plan:
    """A plan of one sandbox whose programs are uid 7001 and whose gVisor is 7000."""
    fields: dict[str, Any] = {
        "id": "s1",
        "profile": Profile.RUN,
        "argv": ("/usr/bin/python3",),
        "environment": {"A": "b"},
        "limits": LIMITS,
    }
    spec = SandboxSpec(**fields | changes)
    return Plan(
        request=StartRequest(spec, (), ()),
        uid=7_001,
        host_uid=7_000,
        server_uid=1,
        uid_range=range(7_000, 8_000),
        mounts=(root.OpenMount(5, "/mnt/out", True, True), root.OpenMount(6, "/mnt/shim", True, False)),
        descriptors=(),
        null_fd=3,
        template=root.Template(-1, (), ()),
        seccomp=b"some",
        landlock_abi=0,
        use_cgroups=True,
        use_gate=False,
        oci_root="/r",
        own_addresses=(),
    )


def test_a_program_has_no_id_of_this_machine_but_its_own_and_no_right() -> None:
    found = json.loads(json.dumps(document(plan(), "/r", "/own")))
    process, linux = found["process"], found["linux"]
    assert process["user"] == {"uid": 7_001, "gid": 7_001}
    assert {(one["containerID"], one["hostID"], one["size"]) for one in linux["uidMappings"]} == {
        (0, 7_000, 1),
        (7_001, 7_001, 1),
    }
    assert linux["uidMappings"] == linux["gidMappings"]
    assert process["noNewPrivileges"] is True
    assert set(map(tuple, process["capabilities"].values())) == {()}
    assert {one["type"] for one in linux["namespaces"]} == {"user", "pid", "ipc", "uts", "mount"}
    assert found["root"] == {"path": "/r", "readonly": True}


def test_only_what_is_meant_can_be_written_and_only_a_mount_point_is_looked_at_again() -> None:
    def mounts(**changes: Any) -> dict[str, list[str]]:
        found = document(plan(**changes), "/r", "/own")["mounts"]
        return {one["destination"]: one["options"] for one in found}

    usual = mounts()
    assert {target for target, options in usual.items() if "ro" not in options} == {
        *("/proc", "/tmp", "/dev/shm", "/mnt/out")
    }
    assert f"size={LIMITS.tmp_bytes}" in usual["/tmp"]
    assert set(mounts(mount_point="/mnt/code")) - set(usual) == {"/mnt"}


def test_processes_are_counted_inside_and_the_group_has_room_for_gvisor_itself() -> None:
    limits = document(plan(), "/r", "/own")["process"]["rlimits"]
    (count,) = [one["hard"] for one in limits if one["type"] == "RLIMIT_NPROC"]
    assert count == LIMITS.pids
    outer = runsc.group_limits(LIMITS)
    assert outer.memory_bytes == LIMITS.memory_bytes + runsc.MEMORY_BYTES
    assert outer.pids > LIMITS.pids
    assert outer.cpus == LIMITS.cpus


@pytest.mark.parametrize(
    ("status", "expected"), [(0, 0), (7 << 8, 7 << 8), (139 << 8, 11), (137 << 8, 9), (9, 9), (128 << 8, 128 << 8)]
)
def test_a_signal_that_ended_the_program_is_told_as_one(status: int, expected: int) -> None:
    assert runsc.wait_status(status) == expected


def test_the_first_error_of_its_log_is_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert runsc.first_error(str(log)) == ""
    lines = [{"level": "warning", "msg": "old"}, {"level": "error", "msg": "the cause"}, {"level": "error", "msg": "x"}]
    log.write_text("".join(map(json.dumps, lines)))
    assert runsc.first_error(str(log)) == "the cause"
    log.write_text('{"level": "err')
    assert runsc.first_error(str(log)) == ""


def fake(tmp_path: Path, usage: str, mode: int = 0o755, does: str = "true") -> str:
    """A program that says it is runsc, and what it does when it is to make a sandbox."""
    path = tmp_path / "runsc"
    path.write_text(
        f'#!/bin/sh\ncase $1 in help) echo "{usage}";; --root=*) {does};; *) echo "runsc version 0.0~20990101";; esac\n'
    )
    path.chmod(mode)
    return str(path)


def test_a_runsc_that_hands_no_socket_over_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    loose = runsc.facility(fake(tmp_path, "-pass-fd value", 0o777))
    assert not loose.ok and "changed by others" in loose.detail
    missing = runsc.facility(str(tmp_path / "none"))
    assert not missing.ok and "No such file" in missing.detail
    monkeypatch.setattr(runsc, "is_of_root_alone", lambda path: True)
    monkeypatch.setattr(runsc, "PLACE", str(tmp_path))
    good = runsc.facility(fake(tmp_path, "-bundle string -pass-fd value"))
    assert good.ok and "20990101" in good.detail
    unable = runsc.facility(fake(tmp_path, "-pass-fd value", does="echo no user namespaces >&2; exit 128"))
    assert not unable.ok and unable.detail.endswith("does not run here: no user namespaces")
    old = runsc.facility(fake(tmp_path, "-bundle string"))
    assert not old.ok and old.mandatory and "too old" in old.detail and "Debian 13" in old.fix

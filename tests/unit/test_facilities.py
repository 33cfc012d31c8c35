"""Each thing that isolation needs, missing: what is said, what to do, and whether the operator may go on without it."""

import os
import pwd
from collections.abc import Callable
from typing import Any

import pytest

from hearth.executor.sandbox import cgroups, facilities, oci, runsc, syscalls
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.spec import Facility
from hearth.server import missing
from hearth.settings import WEAKENABLE

CONFIG = SpawnerConfig("/nowhere", 1, 1)


class NoGroups:
    def __init__(self, name: str) -> None:
        raise cgroups.CgroupError(f"no hierarchy for {name[:6]}")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can do nothing."""
    monkeypatch.setattr(facilities, "_in_child", lambda probe: "[Errno 1] Operation not permitted")
    monkeypatch.setattr(os.path, "islink", lambda path: False)
    monkeypatch.setattr(cgroups, "Cgroups", NoGroups)
    monkeypatch.setattr(syscalls, "landlock_abi", lambda: 0)
    owner = pwd.struct_passwd(("somebody", "x", CONFIG.uid_first, 100, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [owner])
    monkeypatch.setattr(os, "geteuid", lambda: 0)


CASES: list[tuple[Callable[[], Facility], str, str, str]] = [
    (facilities._mount_facility, "mounts", "", "Linux 5.12"),
    (facilities._usr_facility, "usr", "", "usrmerge"),
    (facilities._process_facility, "namespaces", "", "clone3"),
    (facilities._seccomp_facility, "seccomp", "seccomp", "CONFIG_SECCOMP_FILTER"),
    (lambda: facilities._cgroup_facility(CONFIG), "cgroups", "cgroups", "Delegate=yes"),
    (facilities._egress_facility, "egress", "egress", "modprobe nf_tables"),
    (lambda: facilities._uid_facility(CONFIG), "uids", "", "another range"),
    (lambda: oci.facility("/nowhere/runc"), "runc", "", "apt-get install runc"),
    (lambda: runsc.facility("/nowhere/runsc"), "runsc", "", "Debian 13"),
]


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("probe", "name", "flag", "fix"), CASES)
def test_a_mandatory_facility_that_is_missing_stops_the_start_with_one_line(
    probe: Callable[[], Facility], name: str, flag: str, fix: str
) -> None:
    found = probe()
    assert (found.name, found.ok, found.mandatory, found.flag) == (name, False, True, flag)
    (line,) = missing([found], frozenset())
    assert line.startswith(f"{name}: {found.detail}. ") and found.detail and fix in line and "\n" not in line
    assert line.endswith(f"--weaken={flag}") is bool(flag)
    assert missing([found], frozenset(WEAKENABLE)) == ([] if flag else [line])


@pytest.mark.usefixtures("bare")
def test_what_only_adds_a_layer_never_stops_a_start() -> None:
    for found, fix in ((facilities._landlock_facility(), "lsm="), (facilities._disk_facility(), "modprobe loop")):
        assert not found.ok and not found.mandatory and fix in found.fix
        assert missing([found], frozenset()) == []


def test_the_names_that_may_be_weakened_are_those_of_facilities_with_a_flag(bare: Any) -> None:
    assert {flag for _, _, flag, _ in CASES if flag} == set(WEAKENABLE)


def test_a_user_inside_the_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = pwd.struct_passwd(("somebody", "x", CONFIG.uid_first + 7, 100, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [owner])
    assert "somebody" in facilities._uid_facility(CONFIG).detail

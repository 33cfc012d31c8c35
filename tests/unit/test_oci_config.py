"""What runc is told of system calls is what our own filter says; rules that cannot exclude are complete."""

import pytest

from hearth.executor.sandbox.filters import generate
from hearth.executor.sandbox.oci_config import ARCHITECTURES, seccomp

RULES = seccomp("x86_64")["syscalls"]


def verdict(name: str, *arguments: int) -> str:
    """What the rules say to a call: the first that fits, as libseccomp finds it; the default is an error."""
    for rule in RULES:
        if name not in rule["names"]:
            continue
        conditions = rule.get("args", [])
        if all(arguments[one["index"]] & one["value"] == one["valueTwo"] for one in conditions):
            return "allow" if rule["action"] == "SCMP_ACT_ALLOW" else f"errno {rule['errnoRet']}"
    return "refuse"


def test_every_call_without_a_rule_of_its_own_is_allowed_and_nothing_else_is_named() -> None:
    plain = {name for group in generate.PLAIN.values() for name in group.split()}
    assert all(verdict(name) == "allow" for name in plain)
    assert {name for rule in RULES for name in rule["names"]} == plain | generate.RULES.keys()
    assert verdict("mount") == verdict("bpf") == "refuse"


@pytest.mark.parametrize("call", [0x5412, 0x541C, 0x5423])
def test_what_types_into_a_terminal_is_refused_however_it_is_written(call: int) -> None:
    """The kernel looks at the lower half of the number only."""
    for upper in (0, 1 << 32, 0xFFFF_FFFF << 32):
        assert verdict("ioctl", 0, call | upper) == "refuse"


@pytest.mark.parametrize("call", [0, 1, 0x5411, 0x5413, 0x541B, 0x5422, 0x5424, 0x5401, 0x8914, 0xFFFF_FFFF, 0x1_5412])
def test_every_other_ioctl_is_allowed(call: int) -> None:
    for upper in (0, 1 << 32):
        assert verdict("ioctl", 0, call | upper) == "allow"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((1, 9), "allow"), ((1, 0), "refuse"), ((1, 15), "refuse"), ((22, 2), "refuse"), ((35, 0), "refuse")]
    + [((option, 0), "allow") for option in (2, 3, 4, 15, 16, 21, 23, 34, 36, 38, 47, 0x53564D41)],
)
def test_prctl_keeps_the_tie_to_the_spawner(arguments: tuple[int, int], expected: str) -> None:
    assert verdict("prctl", *arguments) == expected


def test_the_limit_of_core_files_is_never_changed() -> None:
    for upper in (0, 1 << 32):
        assert verdict("prlimit64", 0, 4 | upper, 8) == verdict("prlimit64", 0, 4 | upper, 1 << 32) == "refuse"
        assert verdict("setrlimit", 4 | upper, 8) == "refuse"
        for kind in (0, 3, 5, 7, 15, 64):
            assert verdict("prlimit64", 0, kind | upper, 8) == verdict("setrlimit", kind | upper, 8) == "allow"
    assert verdict("prlimit64", 0, 4, 0) == "allow"


def test_new_namespaces_are_refused_and_threads_are_not() -> None:
    assert verdict("clone", 0x003D_0F00) == verdict("clone", 17) == "allow"
    for flag in (0x0002_0000, 0x0200_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
        assert verdict("clone", flag | 17) == "refuse"
    assert verdict("clone3") == f"errno {generate.ENOSYS}"


def test_sockets_are_unix_tcp_udp_and_routing_only() -> None:
    good = [(1, 1, 0), (1, 5, 0), (2, 1, 0), (2, 2, 17), (10, 1, 6), (2, 0x80801, 0), (16, 3, 0)]
    bad = [(17, 3, 768), (2, 3, 1), (2, 2, 1), (40, 1, 0), (38, 5, 0), (16, 3, 12), (2, 1, 132)]
    assert {verdict("socket", *one) for one in good} == {"allow"}
    assert {verdict("socket", *one) for one in bad} == {"refuse"}


def test_there_are_rules_for_both_machines() -> None:
    for machine, name in ARCHITECTURES.items():
        assert seccomp(machine)["architectures"] == [name]

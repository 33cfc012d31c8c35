"""The shipped seccomp filters are what their source makes, and decide as promised. Run in a small interpreter."""

import struct

import pytest

from hearth.executor.sandbox.filters.generate import HERE, MACHINES, PLAIN, RULES, compiled, numbers

ALLOWED, KILLED = "allow", "kill"
X86, ARM = "x86_64", "aarch64"


def decide(program: bytes, architecture: int, number: int, *arguments: int) -> str | int:
    """What the filter does with a call: `allow`, `kill`, or an errno. Classic BPF as in the kernel's seccomp.c."""
    words = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & 0xFFFF_FFFF, architecture, 0, *words)
    position = accumulator = 0
    for _ in range(4_096):
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, 8 * position)
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x15:
                position += if_true if accumulator == value else if_false
            case 0x35:
                position += if_true if accumulator >= value else if_false
            case 0x25:
                position += if_true if accumulator > value else if_false
            case 0x45:
                position += if_true if accumulator & value else if_false
            case 0x05:
                position += value
            case 0x54:
                accumulator &= value
            case 0x06:
                if value == 0x7FFF_0000:
                    return ALLOWED
                return KILLED if value == 0x8000_0000 else value & 0xFFFF
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")
    raise AssertionError("no end")


@pytest.fixture(params=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def shipped(machine: str) -> bytes:
    return (HERE / f"allow-{machine}.bpf").read_bytes()


def call(machine: str, name: str, *arguments: int) -> str | int:
    return decide(shipped(machine), MACHINES[machine], numbers(machine)[name], *arguments)


def test_the_shipped_bytes_are_what_the_source_makes(machine: str) -> None:
    assert shipped(machine) == compiled(machine)
    assert len(shipped(machine)) % 8 == 0
    assert len(shipped(machine)) // 8 <= 4_096, "the kernel's limit"


def test_every_number_is_decided_as_listed(machine: str) -> None:
    listed = {name for group in PLAIN.values() for name in group.split()}
    table = {number: name for name, number in numbers(machine).items()}
    newest = max(table)
    for number in range(newest + 200):
        name = table.get(number)
        if name in RULES:
            continue
        expected = ALLOWED if name in listed else 38 if number > newest else 1
        assert decide(shipped(machine), MACHINES[machine], number) == expected, (number, name)


@pytest.mark.parametrize(
    "name",
    [
        "mount",
        "umount2",
        "setns",
        "unshare",
        "pivot_root",
        "chroot",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "keyctl",
        "add_key",
        "request_key",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "reboot",
        "syslog",
        "swapon",
        "swapoff",
        "acct",
        "quotactl",
        "open_by_handle_at",
        "settimeofday",
        "clock_settime",
        "pidfd_getfd",
        "fsopen",
        "fsmount",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "sethostname",
        "setdomainname",
        "seccomp",
        "fanotify_init",
    ],
)
def test_dangerous_calls_are_refused(machine: str, name: str) -> None:
    assert call(machine, name) == 1


def test_another_calling_convention_kills(machine: str) -> None:
    for architecture in (0x4000_0003, 0x4000_0028, 0, *(MACHINES[name] for name in MACHINES if name != machine)):
        assert decide(shipped(machine), architecture, 0) == KILLED


def test_x32_numbers_kill() -> None:
    for number in (0x4000_0000, 0x4000_0000 | 39, 0xFFFF_FFFF):
        assert decide(shipped(X86), MACHINES[X86], number) == KILLED


def test_new_processes_but_no_new_namespaces(machine: str) -> None:
    assert call(machine, "clone", 17) == ALLOWED
    assert call(machine, "clone", 0x3D0F00) == ALLOWED, "a thread of glibc"
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert call(machine, "clone", flag | 17) == 1
        assert call(machine, "clone", flag | 0x3D0F00) == 1
    assert call(machine, "clone3") == 38


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 1, 0), ALLOWED),
        ((1, 0x80805, 0), ALLOWED),
        ((2, 1, 0), ALLOWED),
        ((2, 0x80801, 6), ALLOWED),
        ((2, 2, 17), ALLOWED),
        ((10, 1, 0), ALLOWED),
        ((10, 0x80002, 0), ALLOWED),
        ((16, 3, 0), ALLOWED),
        ((2, 3, 1), 93),
        ((2, 3, 0), 93),
        ((2, 2, 1), 93),
        ((2, 1, 132), 93),
        ((2, 1, 262), 93),
        ((10, 3, 58), 93),
        ((16, 3, 12), 93),
        ((16, 3, 9), 93),
        ((17, 3, 0), 97),
        ((40, 1, 0), 97),
        ((38, 5, 0), 97),
        ((44, 3, 0), 97),
        ((15, 3, 2), 97),
    ],
)
def test_only_unix_tcp_udp_and_route_sockets(machine: str, arguments: tuple[int, ...], expected: str | int) -> None:
    assert call(machine, "socket", *arguments) == expected


def test_the_death_signal_stays_and_personality_keeps_randomisation(machine: str) -> None:
    assert call(machine, "prctl", 1, 9) == ALLOWED
    assert call(machine, "prctl", 1, 0) == 1
    assert call(machine, "prctl", 1, 15) == 1
    assert call(machine, "prctl", 22, 2) == 1
    assert call(machine, "prctl", 15) == ALLOWED
    assert call(machine, "personality", 0xFFFF_FFFF) == ALLOWED
    assert call(machine, "personality", 0x0040000) == 1
    assert call(machine, "ioctl", 0, 0x5412) == 1
    assert call(machine, "ioctl", 0, 0x5401) == ALLOWED
    assert call(machine, "socketpair", 1, 1, 0) == ALLOWED
    assert call(machine, "socketpair", 16, 3, 0) == 97
    assert call(machine, "sync") == call(machine, "syncfs", 3) == 0
    assert call(machine, "cachestat", 3) == 1, "it tells which files of the host others read"


def test_the_limit_of_core_files_can_be_asked_for_and_is_never_changed(machine: str) -> None:
    """With 0 instead of 1 the kernel would start the host's program for crashes, as root."""
    pointers = (8, 1 << 32, 0x7FFF_0000_0000, 0xFFFF_FFFF)
    for pointer in pointers:
        assert call(machine, "prlimit64", 0, 4, pointer, 0) == call(machine, "prlimit64", 7, 1 << 32 | 4, pointer) == 0
        assert call(machine, "prlimit64", 0, 7, pointer, pointer) == ALLOWED
    assert call(machine, "prlimit64", 0, 4, 0, 0x7FFF_0000_0000) == ALLOWED
    assert call(machine, "setrlimit", 4, 8) == 0
    assert call(machine, "setrlimit", 7, 8) == ALLOWED

"""Makes the seccomp filters: an allow list per machine, compiled to BPF bytes by the small assembler below.

Development time only: `python -m hearth.executor.sandbox.filters.generate` rewrites `allow-<machine>.bpf`; a test
compares the shipped bytes with what this file makes, and runs them in an interpreter. The server only loads bytes.

What is not listed answers EPERM; a number above the newest one known answers ENOSYS, so that a C library falls back;
a foreign calling convention (32-bit, x32) kills the process.
"""

import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
MACHINES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
"""Machine -> AUDIT_ARCH_* constant (linux/audit.h)."""

# BPF (linux/bpf_common.h)
LOAD_WORD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_GREATER, JUMP_SET, JUMP, RETURN, AND = (
    0x20,
    0x15,
    0x35,
    0x25,
    0x45,
    0x05,
    0x06,
    0x54,
)
Instruction = tuple[int, int, int, int]
Program = list[Instruction]

ALLOW = 0x7FFF_0000
KILL_PROCESS = 0x8000_0000
ERRNO = 0x0005_0000
EPERM, ENOSYS, EPROTONOSUPPORT, EAFNOSUPPORT = 1, 38, 93, 97

X32_BIT = 0x4000_0000
RLIMIT_CORE = 4
NEW_NAMESPACES = 0x7E02_0000
"""Every CLONE_NEW* bit of clone(2) (CLONE_NEWTIME cannot be asked for there)."""

PLAIN = {
    "files": """
        access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
        fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr file_getattr flistxattr
        flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr
        getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr
        listxattrat llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat
        openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr
        removexattrat rename renameat renameat2 rmdir sendfile setxattr setxattrat splice stat statfs statx symlink
        symlinkat sync_file_range tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write
        writev
    """,
    "memory": """
        brk madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap mseal
        msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
    """,
    "processes": """
        alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv
        futex_wake get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups getpgid getpgrp getpid
        getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set kill
        landlock_add_rule landlock_create_ruleset landlock_restrict_self nanosleep pause pidfd_open pidfd_send_signal
        restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
        sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_thread_area set_tid_address
        setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setsid
        setuid sigaltstack sysinfo tgkill time times tkill uname vfork wait4 waitid
    """,
    "waiting and clocks": """
        clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait
        epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getitimer gettimeofday poll ppoll pselect6 select
        setitimer signalfd signalfd4 timer_create timer_delete timer_getoverrun timer_gettime timer_settime
        timerfd_create timerfd_gettime timerfd_settime
    """,
    "talking": """
        accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify mq_open
        mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 recvfrom recvmmsg recvmsg semctl
        semget semop semtimedop sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown getrandom
    """,
}


def answer(action: int) -> Program:
    return [(RETURN, 0, 0, action)]


def error(number: int) -> Program:
    return answer(ERRNO | number)


def argument(index: int, high: bool = False) -> Program:
    """Load one half of a system call's argument (little-endian `struct seccomp_data`)."""
    return [(LOAD_WORD, 0, 0, 16 + 8 * index + (4 if high else 0))]


def when(jump: int, value: int, then: Program, otherwise: Program) -> Program:
    """`then` if the loaded word compares with `value` as `jump` says, else `otherwise`. Neither may fall through."""
    if len(otherwise) <= 255:
        return [(jump, len(otherwise), 0, value), *otherwise, *then]
    return [(jump, 0, 1, value), (JUMP, 0, 0, len(otherwise)), *otherwise, *then]


def one_of(values: Sequence[int], then: Program, otherwise: Program) -> Program:
    program = otherwise
    for value in values:
        program = when(JUMP_EQUAL, value, then, program)
    return program


def clone_rule() -> Program:
    """New processes and threads, but no new namespaces."""
    return argument(0) + when(JUMP_SET, NEW_NAMESPACES, error(EPERM), answer(ALLOW))


def socket_rule() -> Program:
    """Unix sockets; TCP and UDP; routing netlink (to list the own interfaces). Nothing raw, no other family."""
    plain_protocol = argument(2) + one_of((0, 6, 17), answer(ALLOW), error(EPROTONOSUPPORT))
    internet = [*argument(1), (AND, 0, 0, 0xF), *one_of((1, 2), plain_protocol, error(EPROTONOSUPPORT))]
    routing = argument(2) + one_of((0,), answer(ALLOW), error(EPROTONOSUPPORT))
    other = when(JUMP_EQUAL, 16, routing, error(EAFNOSUPPORT))
    return argument(0) + when(JUMP_EQUAL, 1, answer(ALLOW), one_of((2, 10), internet, other))


def socketpair_rule() -> Program:
    return argument(0) + when(JUMP_EQUAL, 1, answer(ALLOW), error(EAFNOSUPPORT))


def ioctl_rule() -> Program:
    """All but typing into a terminal (TIOCSTI, TIOCLINUX) and line disciplines (TIOCSETD)."""
    return argument(1) + one_of((0x5412, 0x541C, 0x5423), error(EPERM), answer(ALLOW))


def personality_rule() -> Program:
    """Ask for the personality or set the plain one; address randomisation stays on."""
    return argument(0) + one_of((0, 0xFFFF_FFFF), answer(ALLOW), error(EPERM))


def prctl_rule() -> Program:
    """All but: a death signal other than SIGKILL (it ties the sandbox to its spawner), SECCOMP, SET_MM."""
    death_signal = argument(1) + when(JUMP_EQUAL, 9, answer(ALLOW), error(EPERM))
    return argument(0) + when(JUMP_EQUAL, 1, death_signal, one_of((22, 35), error(EPERM), answer(ALLOW)))


def core_limit_rule(resource: int, is_asking: Program) -> Program:
    """All but another limit of core files than the sandbox's: with 0 a host's program for crashes would be started.

    It answers success and does nothing, because programs with secrets insist on setting it.
    """
    return argument(resource) + when(JUMP_EQUAL, RLIMIT_CORE, is_asking, answer(ALLOW))


def prlimit_rule() -> Program:
    low = argument(2) + when(JUMP_EQUAL, 0, answer(ALLOW), error(0))
    return core_limit_rule(1, argument(2, high=True) + when(JUMP_EQUAL, 0, low, error(0)))


RULES: Mapping[str, Program] = {
    "clone": clone_rule(),
    "clone3": error(ENOSYS),  # its flags are in memory, where a filter cannot look; C libraries fall back to clone
    "socket": socket_rule(),
    "socketpair": socketpair_rule(),
    "ioctl": ioctl_rule(),
    "personality": personality_rule(),
    "prctl": prctl_rule(),
    "setrlimit": core_limit_rule(0, error(0)),
    "prlimit64": prlimit_rule(),
    # they flush disks of the host, to which a folder that can only be read is enough: success, and nothing is done
    "sync": error(0),
    "syncfs": error(0),
}


def numbers(machine: str) -> dict[str, int]:
    """System call name -> number on `machine`."""
    column = 1 + list(MACHINES).index(machine)
    rows = [line.split("\t") for line in (HERE / "numbers.tsv").read_text().splitlines() if not line.startswith("#")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def search_tree(ranges: Sequence[tuple[int, Program]]) -> Program:
    """Binary search for the range the loaded number is in; `ranges` are (first number, program), ascending."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    return when(JUMP_GREATER_EQUAL, ranges[middle][0], search_tree(ranges[middle:]), search_tree(ranges[:middle]))


def build(machine: str) -> Program:
    table = numbers(machine)
    listed = {name for group in PLAIN.values() for name in group.split()}
    unknown = (listed | RULES.keys()) - numbers("x86_64").keys() - numbers("aarch64").keys()
    if unknown:
        raise ValueError(f"no such system calls: {', '.join(sorted(unknown))}")
    actions = {table[name]: answer(ALLOW) for name in listed if name in table}
    actions |= {table[name]: program for name, program in RULES.items() if name in table}
    newest = max(table.values())
    ranges: list[tuple[int, Program]] = []
    for number in range(newest + 1):
        program = actions.get(number, error(EPERM))
        if not ranges or ranges[-1][1] != program:
            ranges.append((number, program))
    ranges.append((newest + 1, error(ENOSYS)))
    program = search_tree(ranges)
    if machine == "x86_64":
        program = when(JUMP_GREATER_EQUAL, X32_BIT, answer(KILL_PROCESS), program)
    program = [(LOAD_WORD, 0, 0, 0), *program]
    return [(LOAD_WORD, 0, 0, 4), *when(JUMP_EQUAL, MACHINES[machine], program, answer(KILL_PROCESS))]


def compiled(machine: str) -> bytes:
    """The filter as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in build(machine))


def main() -> None:
    for machine in MACHINES:
        program = compiled(machine)
        (HERE / f"allow-{machine}.bpf").write_bytes(program)
        sys.stdout.write(f"allow-{machine}.bpf: {len(program) // 8} instructions\n")


if __name__ == "__main__":
    main()

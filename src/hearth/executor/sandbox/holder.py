"""The program that keeps a container there while nothing else runs in it: it collects orphans and waits.

An image need not hold any program that can do that, and a program of this machine need not run in it, so it is a few
instructions as bytes: an executable without a library, the first process of the container.
"""

import platform
import struct

_BASE = 0x40_0000
_HEADERS = 64 + 56
_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of elf(5)

_X86_64 = (
    b"\x31\xc0"  # xor eax, eax
    b"\x50\x50\x50"  # push rax, three times: an empty struct sigaction ...
    b"\x6a\x01"  # push 1: ... whose handler is SIG_IGN, so that the kernel collects every child by itself
    b"\x48\x89\xe6"  # mov rsi, rsp
    b"\x31\xd2"  # xor edx, edx
    b"\xbf\x11\x00\x00\x00"  # mov edi, 17: SIGCHLD
    b"\x41\xba\x08\x00\x00\x00"  # mov r10d, 8: bytes of a signal set
    b"\xb8\x0d\x00\x00\x00"  # mov eax, 13: rt_sigaction
    b"\x0f\x05"  # syscall
    b"\xb8\x22\x00\x00\x00"  # wait: mov eax, 34: pause
    b"\x0f\x05"  # syscall
    b"\xeb\xf7"  # jmp wait
)
_AARCH64 = struct.pack(
    "<16I",
    0xD10083FF,  # sub sp, sp, #32
    0xD2800020,  # mov x0, #1: SIG_IGN
    0xA9007FE0,  # stp x0, xzr, [sp]
    0xA9017FFF,  # stp xzr, xzr, [sp, #16]
    0xD2800220,  # mov x0, #17: SIGCHLD
    0x910003E1,  # mov x1, sp
    0xD2800002,  # mov x2, #0
    0xD2800103,  # mov x3, #8
    0xD28010C8,  # mov x8, #134: rt_sigaction
    0xD4000001,  # svc #0
    0xD2800000,  # wait: mov x0, #0
    0xD2800001,  # mov x1, #0
    0xD2800004,  # mov x4, #0
    0xD2800928,  # mov x8, #73: ppoll(0, 0, x2 = 0: for ever, x3, 0)
    0xD4000001,  # svc #0
    0x17FFFFFB,  # b wait
)
_CODE = {"x86_64": _X86_64, "aarch64": _AARCH64}


def program(machine: str = platform.machine()) -> bytes:
    """The executable for a machine. Raises OSError where there is none."""
    if machine not in _CODE:
        raise OSError(f"no program that holds a container on {machine}")
    code = _CODE[machine]
    size = _HEADERS + len(code)
    header = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)
    header += struct.pack("<HHIQQQIHHHHHH", 2, _MACHINES[machine], 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1_0000)
    return header + segment + code

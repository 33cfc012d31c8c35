"""This machine's own Python, for programs of ours in sandboxes whose system is an image that may have none.

The image's C library is another one, or another version, so the machine's loader and libraries come with it.
"""

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from hearth.runtimes.families import SYSTEM_PYTHON
from hearth.runtimes.locations import LENT_INSIDE

USR = "/usr"
_ELF_HEADER_BYTES, _SEGMENT_BYTES, _INTERPRETER = 64, 56, 3  # elf(5): PT_INTERP


@dataclass(frozen=True, slots=True)
class Lent:
    """What a sandbox is shown, as (host path, path inside), and the command that starts the Python there."""

    mounts: tuple[tuple[str, str], ...]
    command: tuple[str, ...]


def lent_python(python: str = SYSTEM_PYTHON) -> Lent:
    """How to lend a Python below /usr. Raises ValueError where that cannot be done."""
    program = os.path.realpath(python)
    try:
        loader = os.path.realpath(_loader(program))
    except (OSError, struct.error) as problem:
        raise ValueError(f"{program} cannot be lent to images that speak HTTP: {problem}") from problem
    for path in (program, loader):
        if not path.startswith(f"{USR}/"):
            raise ValueError(f"images that speak HTTP need a Python below {USR} on this machine, not {path}")
    inside = [path.replace(USR, LENT_INSIDE, 1) for path in (loader, str(Path(loader).parent), program)]
    return Lent(((USR, LENT_INSIDE),), (inside[0], "--library-path", inside[1], inside[2]))


def _loader(program: str) -> str:
    """The program's loader, by its header. Raises OSError, struct.error."""
    with Path(program).open("rb") as file:
        header = file.read(_ELF_HEADER_BYTES)
        if header[:5] != b"\x7fELF\x02" or sys.byteorder != "little":
            raise OSError("it is no program for 64 bits")
        (offset,) = struct.unpack_from("<Q", header, 32)
        (count,) = struct.unpack_from("<H", header, 56)
        file.seek(offset)
        segments = file.read(count * _SEGMENT_BYTES)
        for at in range(0, len(segments), _SEGMENT_BYTES):
            kind, _, begin, _, _, size = struct.unpack_from("<IIQQQQ", segments, at)
            if kind == _INTERPRETER:
                file.seek(begin)
                return file.read(size).rstrip(b"\0").decode()
    raise OSError("it has no loader")

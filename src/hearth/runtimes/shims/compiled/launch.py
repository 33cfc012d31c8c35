"""Starts the binary that a build left, as the shim of its instance: says `ready`, waits for the assignment, becomes it.

The assignment's environment has to be there before the program starts, because its own initialization may read it;
what else it needs of the assignment is in variables that it takes out again. Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import json
import os
import sys

CHANNEL = 3
FRAME_MAX_BYTES = 2 * 1024 * 1024 + 4
NO_PROGRAM = "The build of this function left no program. Build the deployment again."


def send(header: dict[str, object]) -> None:
    """Write one frame without a body."""
    head = json.dumps(header).encode()
    data = (4 + len(head)).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head
    while data:
        data = data[os.write(CHANNEL, data) :]


def exactly(length: int) -> bytes:
    """Read so many bytes and none of what follows; ends this process when the host has gone."""
    data = b""
    while len(data) < length:
        try:
            piece = os.read(CHANNEL, length - len(data))
        except ConnectionResetError:
            piece = b""
        if not piece:
            os._exit(0)
        data += piece
    return data


def main(program: str) -> None:
    """Say `ready`, take the assignment, and be replaced by `program`."""
    send({"type": "ready", "pid": os.getpid(), "version": ""})
    size = int.from_bytes(exactly(4), "big")
    if not 4 <= size <= FRAME_MAX_BYTES:
        raise ValueError(f"frame of {size} bytes")
    frame = exactly(size)
    assignment = json.loads(frame[4 : 4 + int.from_bytes(frame[:4], "big")])
    environment = {**os.environ, **assignment["environment"]}
    for name in ("concurrency", "window"):
        environment[f"HEARTH_{name.upper()}"] = str(assignment[name])
    try:
        os.execve(program, [program], environment)
    except OSError:
        send({"type": "load_failed", "error": NO_PROGRAM})
        exactly(1)  # the host ends this instance


if __name__ == "__main__":
    main(sys.argv[1])

"""How values become log lines, how native output finds its execution, and how tracebacks are shown.

Contract: runtime-contract 4. Python >= 3.9.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Sink = Callable[[bytes], None]

    from hearth.runtimes.shims.python.hearth_json import encoder
else:
    from hearth_json import encoder

MESSAGE_MAX_CHARS = 8000
TRUNCATED = f"... Log truncated due to size limit ({MESSAGE_MAX_CHARS} characters)"

_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_compact = encoder(ensure_ascii=False, default=str)


def line(values: tuple[Any, ...]) -> str:
    """One log line (without its newline) from the arguments of one call."""
    text = _text(values[0]) if len(values) == 1 else " ".join([_text(value) for value in values])
    return text if len(text) <= MESSAGE_MAX_CHARS else text[:MESSAGE_MAX_CHARS] + TRUNCATED


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list, tuple)):
        try:
            return _compact(value)
        except (TypeError, ValueError, RecursionError):
            return str(value)
    if isinstance(value, BaseException) and value.__traceback__ is not None:
        return describe(value)
    return str(value)


def describe(problem: BaseException) -> str:
    """The traceback of `problem` as its author should read it: without the frames that lead into user code."""
    import traceback

    shown = problem.__traceback__
    while shown is not None and _is_machinery(shown.tb_frame.f_code.co_filename):
        shown = shown.tb_next
    try:
        formatted = traceback.TracebackException(type(problem), problem, shown).format()
        return "".join(formatted).rstrip("\n")
    except Exception:  # an exception whose own text cannot be made must not hide that it happened
        return f"{type(problem).__name__} (its text could not be made)"


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_FOLDER, "<frozen importlib")) or "/importlib/" in filename or "/asyncio/" in filename


class NativeBuffer(io.BufferedIOBase):
    """What is under `sys.stdout` and `sys.stderr`: gives bytes to the execution that writes them.

    `find` returns where they go: a sink, or None for the process's real `descriptor`.
    """

    def __init__(self, descriptor: int, find: Callable[[], Sink | None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._find = find

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        sink = self._find()
        taken = bytes(data)
        if sink is not None:
            sink(taken)
            return len(taken)
        rest = memoryview(taken)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return len(taken)


def capture_native(find: Callable[[], Sink | None]) -> None:
    """Replace `sys.stdout` and `sys.stderr`."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        buffer = NativeBuffer(descriptor, find)
        stream = io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)

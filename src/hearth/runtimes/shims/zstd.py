"""Zstandard by the system's own library, as streams: `python3 -I -S zstd.py` ends with 0 where there is one.

Standard library only. libzstd is on every Debian (dpkg needs it); where it or `ctypes` is missing, Unavailable is
raised.
Functions and numbers are those of zstd.h, the stable part since 1.4.0.
"""

from __future__ import annotations

import sys

MAGIC = b"\x28\xb5\x2f\xfd"
#: As fast as the fastest of gzip, and smaller than its best.
LEVEL = 3
#: A frame that wants more memory than 2^23 bytes is not one of ours.
WINDOW_LOG_MAX = 23
PIECE_BYTES = 256 * 1024

_LIBRARY = "libzstd.so.1"
_CONTINUE, _END = 0, 2
_C_LEVEL, _C_CHECKSUM = 100, 201
_D_WINDOW_LOG_MAX = 100


class Unavailable(Exception):
    """There is no Zstandard here."""


class Damaged(Exception):
    """What is to be decompressed is no Zstandard, not whole, or wants too much memory."""


try:
    import ctypes

    class _Buffer(ctypes.Structure):
        """ZSTD_inBuffer and ZSTD_outBuffer: both are an address, a size, and how far they are done."""

        _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))

    _found = ctypes.CDLL(_LIBRARY)
    for _name in ("createCCtx", "createDCtx", "getErrorName"):
        getattr(_found, f"ZSTD_{_name}").restype = ctypes.c_void_p if _name != "getErrorName" else ctypes.c_char_p
    for _name in ("CCtx_setParameter", "DCtx_setParameter", "compressStream2", "decompressStream"):
        getattr(_found, f"ZSTD_{_name}").restype = ctypes.c_size_t
    _library: ctypes.CDLL | None = _found
except (ImportError, OSError, AttributeError):
    _library = None


def is_available() -> bool:
    """Whether this interpreter can compress and decompress."""
    return _library is not None


class _Context:
    """A context of the library, freed with this object."""

    def __init__(self, kind: str, parameters: dict[int, int]) -> None:
        if _library is None:
            raise Unavailable(f"{_LIBRARY} is not there (Debian: the package libzstd1).")
        self._library = _library
        self._kind = kind
        self._context = ctypes.c_void_p(getattr(_library, f"ZSTD_create{kind}")())
        self._output = ctypes.create_string_buffer(PIECE_BYTES)
        for parameter, value in parameters.items():
            self._checked(getattr(_library, f"ZSTD_{kind}_setParameter")(self._context, parameter, value))

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            getattr(self._library, f"ZSTD_free{self._kind}")(self._context)

    def _checked(self, code: int) -> int:
        if self._library.ZSTD_isError(ctypes.c_size_t(code)):
            raise Damaged(self._library.ZSTD_getErrorName(ctypes.c_size_t(code)).decode())
        return code

    def _target(self) -> _Buffer:
        return _Buffer(ctypes.cast(self._output, ctypes.c_void_p), PIECE_BYTES, 0)


class Compressor(_Context):
    """One frame; equal input, cut into whatever pieces, gives equal bytes of one version of the library."""

    def __init__(self) -> None:
        super().__init__("CCtx", {_C_LEVEL: LEVEL, _C_CHECKSUM: 1})

    def compress(self, data: bytes) -> bytes:
        """Take a piece; returns what is ready."""
        return self._run(data, _CONTINUE)

    def flush(self) -> bytes:
        """End the frame."""
        return self._run(b"", _END)

    def _run(self, data: bytes, mode: int) -> bytes:
        source = _Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
        pieces = []
        while True:
            target = self._target()
            left = self._checked(
                self._library.ZSTD_compressStream2(
                    self._context, ctypes.byref(target), ctypes.byref(source), ctypes.c_int(mode)
                )
            )
            pieces.append(ctypes.string_at(self._output, target.at))
            if source.at == source.size and (mode == _CONTINUE or left == 0):
                return b"".join(pieces)


class Decompressor(_Context):
    """Gives what a stream of frames holds, a piece at a time. `is_whole`: between two frames."""

    def __init__(self) -> None:
        super().__init__("DCtx", {_D_WINDOW_LOG_MAX: WINDOW_LOG_MAX})
        self._data = b""
        self._source = _Buffer(None, 0, 0)
        self.is_whole = True

    @property
    def needs_input(self) -> bool:
        """Whether everything that was fed has been looked at."""
        return bool(self._source.at >= self._source.size)

    def feed(self, data: bytes) -> None:
        """Take the next compressed piece, when `needs_input`."""
        self._data = data  # kept as long as the library looks at it
        self._source = _Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)

    def piece(self) -> bytes:
        """Up to `PIECE_BYTES` more; `b""` where more input is needed. Raises Damaged."""
        target, before = self._target(), self._source.at
        left = self._checked(
            self._library.ZSTD_decompressStream(self._context, ctypes.byref(target), ctypes.byref(self._source))
        )
        if target.at or self._source.at > before:  # asked for nothing, it speaks of a next frame
            self.is_whole = left == 0
        return ctypes.string_at(self._output, target.at)


if __name__ == "__main__":
    sys.exit(0 if is_available() else 1)

"""The logs of one execution: bounded while they come in, cut to the documented size at the end."""

#: Characters kept per stream and execution, the line that says so included (contract: functions-api 10.6).
LOG_MAX_CHARS = 1_000_000
#: Enough bytes for that many characters of UTF-8.
_KEPT_BYTES = 4 * LOG_MAX_CHARS
_SLACK_BYTES = 1024 * 1024

NATIVE_NOTICE = b"Native logs detected. Use context.log() or context.error() for better experience.\n"


class LogTail:
    """The end of one log stream, as UTF-8 bytes of any cut."""

    __slots__ = ("_cut_bytes", "_cut_lines", "_data")

    def __init__(self) -> None:
        self._data = bytearray()
        self._cut_bytes = 0
        self._cut_lines = 0

    def add(self, text: bytes) -> None:
        """Append a piece of text."""
        self._data += text
        if len(self._data) > _KEPT_BYTES + _SLACK_BYTES:
            cut = len(self._data) - _KEPT_BYTES
            self._cut_lines += self._data.count(b"\n", 0, cut)
            self._cut_bytes += cut
            del self._data[:cut]

    def add_line(self, text: bytes) -> None:
        """Append whole lines; they start on a line of their own."""
        if self._data and self._data[-1] != 10:
            self._data += b"\n"
        self.add(text)

    def tail(self, size: int) -> bytes:
        """The last `size` bytes."""
        return bytes(self._data[-size:])

    def end(self, *, whole_lines: bool) -> int:
        """The position (bytes since the beginning) after the text so far, or after its last whole line."""
        return self._cut_bytes + (self._data.rfind(b"\n") + 1 if whole_lines else len(self._data))

    def line_start(self, position: int) -> int:
        """The position where the first line begins that begins at `position` or later."""
        if position <= 0:
            return 0
        return self._cut_bytes + self._data.find(b"\n", max(0, position - self._cut_bytes - 1)) + 1

    def lines(self, start: int, stop: int) -> tuple[int, tuple[str, ...]]:
        """The lines between two positions, as they are in the final text, and the number of the first of them."""
        begin = max(0, start - self._cut_bytes)
        text = decode(self._data[begin : max(0, stop - self._cut_bytes)])
        first = 1 + self._cut_lines + self._data.count(b"\n", 0, begin)
        return first, tuple(text.removesuffix("\n").split("\n")) if text else ()

    def text(self, kind: str) -> str:
        """The final text, ending in a newline unless empty. `kind` is `Logs` or `Errors`, for the warning line."""
        if not self._data:
            return ""
        if self._data[-1] != 10:
            self._data += b"\n"
        text = decode(self._data)
        if not self._cut_bytes and len(text) <= LOG_MAX_CHARS:
            return text
        warning = f"[WARNING] {kind} truncated. The output exceeded {LOG_MAX_CHARS} characters.\n"
        return warning + text[-(LOG_MAX_CHARS - len(warning)) :]


def decode(data: bytes | bytearray) -> str:
    """Text from whatever a program wrote: bad UTF-8 and NUL (which no database stores) become U+FFFD."""
    return data.decode("utf-8", "replace").replace("\0", "\ufffd")

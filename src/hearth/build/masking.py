"""Keeps the values of secret variables out of build logs."""

import re
from collections.abc import Callable, Iterable

MASK = "***"
#: Shorter values are not hidden: they are in too many words, and no secrets worth the name.
SECRET_MIN_CHARS = 6


class Mask:
    """Hides some texts, also where they arrive in pieces. Each line of a secret of many lines is one of its own.

    A value that a program prints in another form (encoded, cut, reversed) is not recognised.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for secret in secrets for line in (secret, *secret.splitlines())}
        self._secrets = sorted((line for line in lines if len(line) >= SECRET_MIN_CHARS), key=lambda s: (-len(s), s))
        self._pattern = re.compile("|".join(map(re.escape, self._secrets))) if self._secrets else None

    def hide(self, text: str) -> str:
        """`text` with every secret replaced."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def unsure(self, text: str) -> int:
        """Where the part of `text` starts that may be the beginning of a secret; its length if none is."""
        longest = len(self._secrets[0]) - 1 if self._secrets else 0
        for start in range(max(0, len(text) - longest), len(text)):
            tail = text[start:]
            if any(secret.startswith(tail) for secret in self._secrets if len(secret) > len(tail)):
                return start
        return len(text)


class MaskedLog:
    """Hands pieces of a log on to `on_log` without secrets; `close` hands on what was held back."""

    def __init__(self, on_log: Callable[[str], None], mask: Mask) -> None:
        self._on_log = on_log
        self._mask = mask
        self._held = ""

    def write(self, text: str) -> None:
        """Take a piece; only an end that may go on as a secret waits for the next one."""
        text = self._mask.hide(self._held + text)
        sure = self._mask.unsure(text)
        self._held = text[sure:]
        if sure:
            self._on_log(text[:sure])

    def close(self) -> None:
        """The log is complete."""
        if self._held:
            self._on_log(self._held)
        self._held = ""

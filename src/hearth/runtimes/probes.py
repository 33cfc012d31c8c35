"""What interpreters of the machine said of themselves, kept between processes: asking them takes seconds of CPU.

An answer counts as long as the program's file, and the files by which version managers choose behind it, are the same.
Losing the file costs time only, so nothing here fails.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

#: Changes with what is kept, or with how programs are asked.
FORMAT = 1
ENTRIES_MAX = 500
FILE_MAX_BYTES = 1_000_000
_MAGIC = b"\x7fELF"
#: Scripts in a folder of this name belong to a version manager (pyenv, rbenv, nodenv, asdf), which decides by these.
_SHIMS = "shims"
_DECIDE_BESIDE = ("version", "versions")
_DECIDE_AT_HOME = (".tool-versions",)

#: The fields of an answer; None = the program is no interpreter that can be used.
Answer = Mapping[str, str] | None
FIELDS = frozenset({"version", "executable", "prefix", "library"})


def default_file() -> Path | None:
    """Where answers are kept for this user; None where there is no place for such things."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = os.environ.get("HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "hearth" / "probes.json"
    return Path(home) / ".cache" / "hearth" / "probes.json" if Path(home).is_absolute() else None


def stamp(path: Path) -> str:
    """What decides about a program's answer; `""` for a program whose answer may change without that being seen."""
    try:
        with path.open("rb") as file:
            is_binary = file.read(len(_MAGIC)) == _MAGIC
        if not is_binary and path.parent.name != _SHIMS:
            return ""
        parts = [_facts(path)]
    except OSError:
        return ""
    if not is_binary:
        home = Path(os.environ.get("HOME", "/"))
        deciding = [path.parent.parent / name for name in _DECIDE_BESIDE] + [home / name for name in _DECIDE_AT_HOME]
        parts += [_facts(one) if one.exists() else "-" for one in deciding]
        parts.append(os.environ.get("PATH", ""))
    return " ".join([str(path), *parts])


def _facts(path: Path) -> str:
    status = path.stat()
    return f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"


class Probes:
    """The answers kept in a file; `file` None = kept nowhere."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known = _read(file) if file is not None else {}
        self._new: dict[str, Answer] = {}

    def get(self, key: str) -> tuple[bool, Answer]:
        """Whether the answer of a program with this stamp is known, and the answer."""
        return (key in self._known, self._known.get(key)) if key else (False, None)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, unless the stamp is `""`."""
        if key:
            self._new[key] = answer

    def save(self) -> None:
        """Write what is new; of too many answers the oldest are dropped."""
        if self._file is None or not self._new:
            return
        entries = list({**self._known, **self._new}.items())[-ENTRIES_MAX:]
        partial = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                partial.write_text(json.dumps({"format": FORMAT, "entries": entries}), "utf-8")
                partial.replace(self._file)
            finally:
                partial.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, Answer]:
    try:
        # Somebody else's file could name a program for us to run.
        status = file.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or status.st_size > FILE_MAX_BYTES:
            return {}
        kept = json.loads(file.read_text("utf-8"))
        if kept["format"] != FORMAT:
            return {}
        return {str(key): _answer(fields) for key, fields in kept["entries"] if _is_whole(fields)}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _is_whole(fields: Mapping[str, str] | None) -> bool:
    return fields is None or set(fields) >= FIELDS


def _answer(fields: Mapping[str, str] | None) -> Answer:
    return None if fields is None else {str(name): str(value) for name, value in fields.items()}

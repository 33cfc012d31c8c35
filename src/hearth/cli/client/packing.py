"""A folder as the archive a deployment is made of: which files, and bytes that depend on them alone.

Which files are left out is as with the reference's command line (contract: clients 5.4): the function's `ignore` list,
or else its folder's `.gitignore`; by git's rules.
"""

import gzip
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pathspec import GitIgnoreSpec

from hearth.cli.client.problems import Problem

#: Never part of the code: the history, and what command lines keep in a folder.
ALWAYS_IGNORED = (".git", ".appwrite")
VARIABLES_FILE = ".env"


@dataclass(slots=True)
class Packed:
    """What went into an archive. `notes` are for the reader."""

    files: int = 0
    size_bytes: int = 0
    notes: list[str] = field(default_factory=list)


def pack_folder(folder: Path, ignore: Sequence[str] | None, into: BinaryIO) -> Packed:
    """Write the `.tar.gz` of a folder. Equal files give equal bytes, wherever and whenever they were written.

    `ignore` None = the rules of the folder's `.gitignore`. Raises Problem if the folder is missing or has no files.
    """
    if not folder.is_dir():
        raise Problem(f"There is no folder {folder}: it should hold the function's code.")
    packed = Packed()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=into, mtime=0, compresslevel=6) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in sorted(_files(folder, rules_of(folder, ignore), packed)):
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                info = tarfile.TarInfo(name)
                info.size = about.st_size
                info.mode = 0o755 if about.st_mode & 0o100 else 0o644
                try:
                    tar.addfile(info, file)
                except OSError as error:
                    raise Problem(f"{path} changed while it was read: {error}. Try again.") from error
            packed.files += 1
            packed.size_bytes += about.st_size
            if name == VARIABLES_FILE:
                packed.notes.append(
                    f"{VARIABLES_FILE} is part of the code that is sent. Add it to the function's `ignore` list, "
                    "and send its values with --with-variables."
                )
    if not packed.files:
        raise Problem(f"{folder} holds no files besides those that are ignored.")
    return packed


def rules_of(folder: Path, ignore: Sequence[str] | None) -> GitIgnoreSpec:
    """What is left out, as rules of git."""
    lines: Sequence[str] = ignore or ()
    gitignore = folder / ".gitignore"
    if ignore is None and gitignore.is_file():
        lines = gitignore.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return GitIgnoreSpec.from_lines([*lines, *ALWAYS_IGNORED])
    except ValueError as error:
        raise Problem(f"A pattern of what {folder} ignores cannot be read: {error}") from error


def _files(folder: Path, rules: GitIgnoreSpec, packed: Packed) -> Iterator[tuple[str, Path]]:
    """Names inside the archive and paths; of a link to a file inside the folder its content."""
    inside = folder.resolve()
    for parent, folders, names in os.walk(folder):
        base = Path(parent).relative_to(folder)
        # What is below an ignored folder cannot be taken back in, as with git.
        folders[:] = [name for name in folders if not rules.match_file(f"{(base / name).as_posix()}/")]
        for name in (*names, *(each for each in folders if (Path(parent) / each).is_symlink())):
            relative = (base / name).as_posix()
            path = Path(parent) / name
            if rules.match_file(relative):
                continue
            if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(inside)):
                packed.notes.append(f"{relative} is a link to a folder or out of the code; it is left out.")
            elif path.is_file():
                yield relative, path

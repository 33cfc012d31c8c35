"""`hearth backup`: an installation, or one project of it, in one file, while its server goes on.

The work is done by a child process as the server's own user; the parent, who may be root, only gives it the open file
and puts the finished one in its place, so that a backup can go where the server itself may not write.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hearth import __version__
from hearth.auth.passphrases import PASSPHRASE_MIN_CHARACTERS, seal_with_passphrase
from hearth.cli.admin import EXIT_FAILED, EXIT_NOT_ALLOWED, say
from hearth.control.bootstrap import CREDENTIALS_FILE
from hearth.identity import NotAllowed, become_server
from hearth.model import times
from hearth.model.refusals import PlatformFault
from hearth.settings import Settings
from hearth.store.archive import (
    FORMAT,
    ArchiveWriter,
    BackupRefused,
    Manifest,
    Part,
    RowWriter,
    StoredFile,
    TableParts,
)
from hearth.store.belongings import Belongings
from hearth.store.files.copying import Held
from hearth.store.sql.address import AddressRefused, parse_address
from hearth.store.sql.exporting import Snapshot, snapshot, tables_of

EXIT_USAGE = 2
PASSPHRASE_ENV = "HEARTH_BACKUP_PASSPHRASE"  # noqa: S105 - the name of a variable
#: What of an installation is sealed with the passphrase: its keys, and the file that opens it.
KEY_FILES = ("keys/variables.key", "keys/tokens.key", CREDENTIALS_FILE)
_LOCK = "backup.lock"
_SCRATCH_PREFIX = "backup-"


def backup(settings: Settings, to: Path, project: str, passphrase_file: Path | None, *, without_keys: bool) -> int:
    """Write a backup to `to` (in a folder, to a name of its own); `project` `""` is the whole installation."""
    try:
        passphrase = "" if without_keys else read_passphrase(passphrase_file)
        target = to / f"hearth-{project or 'all'}-{times.now():%Y%m%dT%H%M%SZ}.backup" if to.is_dir() else to
        if os.path.lexists(target):
            return say(f"{target} is there already, and a backup replaces nothing. Give another name.", EXIT_USAGE)
        if not settings.data_dir.is_dir():
            return say(f"There is no data folder at {settings.data_dir}.", EXIT_NOT_ALLOWED)
        with _new_file(target) as (file, keep):
            code = in_child(lambda: _written(settings, file, project, passphrase))
            if code == 0:
                os.fsync(file.fileno())
                keep()
    except BackupRefused as error:
        return say(str(error), EXIT_USAGE)
    except OSError as error:
        return say(f"The backup cannot be written to {to}: {error.strerror or error}.", EXIT_FAILED)
    if code == 0:
        print(f"{target}: {target.stat().st_size} bytes")
    return code


def read_passphrase(file: Path | None) -> str:
    """From `file`, else from the environment. Raises BackupRefused if there is none, or it is too short."""
    text = os.environ.get(PASSPHRASE_ENV, "")
    if file is not None:
        try:
            text = file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BackupRefused(f"The passphrase cannot be read from {file}: {error}") from error
    if not text:
        raise BackupRefused(
            "The keys of the installation go into a backup sealed with a passphrase. Give one with --passphrase-file "
            f"or {PASSPHRASE_ENV}; or leave the keys out with --without-keys, and keep the folder `keys` yourself."
        )
    if len(text) < PASSPHRASE_MIN_CHARACTERS:
        raise BackupRefused(f"The passphrase must have at least {PASSPHRASE_MIN_CHARACTERS} characters.")
    return text


def private_file(path: Path) -> IO[bytes]:
    """A new file for its owner alone, open for writing. Raises OSError if there is one."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


@contextmanager
def _new_file(target: Path) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
    """A new file beside `target`, for its owner alone; it takes its name when `keep` is called, else it goes."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with private_file(partial) as file:
        try:
            yield file, lambda: os.link(partial, target)  # unlike a rename, replaces nothing
        finally:
            partial.unlink()


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a child process and return its exit code, for what gives up privileges."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = EXIT_FAILED
        try:
            code = work()
        except KeyboardInterrupt:
            code = 130
        except BaseException:  # noqa: BLE001 - nothing of the parent's may run in the child after it
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    while True:
        try:
            _, status = os.waitpid(child, 0)
        except KeyboardInterrupt:
            continue  # the child was interrupted too, and says so
        return abs(os.waitstatus_to_exitcode(status)) or 0


def _written(settings: Settings, file: IO[bytes], project: str, passphrase: str) -> int:
    try:
        become_server(settings)
        with progress() as shown:
            asyncio.run(write_backup(settings, file, project, passphrase, shown))
            file.flush()
    except NotAllowed as error:
        return say("\n".join(error.lines), EXIT_NOT_ALLOWED)
    except (BackupRefused, AddressRefused) as error:
        return say(str(error), EXIT_NOT_ALLOWED)
    except (PlatformFault, OSError) as error:
        return say(str(error), EXIT_FAILED)
    return 0


def progress() -> Progress:
    """A bar on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


async def write_backup(settings: Settings, file: IO[bytes], project: str, passphrase: str, shown: Progress) -> None:
    """Write a backup to the empty `file`. Raises BackupRefused, AddressRefused, PlatformFault and OSError."""
    address = parse_address(settings.database_url, settings.data_dir)
    archive = ArchiveWriter(file)
    with backup_folder(settings.data_dir) as scratch:
        (scratch / "files").mkdir()
        held = Held(settings.data_dir, scratch / "files")
        held.hold_all()  # before the snapshot: what it names may be deleted at any moment after
        async with snapshot(address, scratch) as taken:
            held.hold_all()
            found = Belongings(is_whole=not project)
            tables = [tables async for tables in _tables(archive, taken, project, found, shown)]
            schema, engine = taken.schema, taken.engine
        if project and not found.projects:
            raise BackupRefused(f"There is no project {project}.")
        keys = archive.add_keys(_sealed_keys(settings.data_dir, passphrase)) if passphrase else None
        manifest = Manifest(
            format=FORMAT,
            hearth=__version__,
            schema=schema,
            created_at=times.to_wire(times.now()),
            engine=engine,
            project=project,
            tables=tuple(tables),
            files=tuple(_files(archive, held, found, shown)),
            keys=keys,
            runtimes=tuple(sorted(found.runtimes)),
        )
        archive.finish(manifest)


@contextmanager
def backup_folder(data_dir: Path) -> Iterator[Path]:
    """A folder on the disk of the data folder, gone afterwards, and what a killed backup left gone too.

    Raises BackupRefused while another backup runs.
    """
    with (data_dir / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupRefused("Another backup of this installation is running. Wait for its end.") from None
        for stale in data_dir.glob(f"{_SCRATCH_PREFIX}*"):
            if stale.is_dir():
                shutil.rmtree(stale)
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=data_dir))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _tables(
    archive: ArchiveWriter, taken: Snapshot, project: str, found: Belongings, shown: Progress
) -> AsyncIterator[TableParts]:
    counts = await taken.counts(project)
    bar = shown.add_task("rows", total=sum(counts.values()))
    for table in tables_of(project):
        columns = tuple(str(column.name) for column in table.columns)
        writer = RowWriter(archive, table.name)
        async for row in taken.rows(table, project):
            found.note(table.name, columns, row)
            writer.add(row)
            shown.advance(bar)
        writer.flush()
        yield TableParts(str(table.name), columns, tuple(writer.parts))


def _files(archive: ArchiveWriter, held: Held, found: Belongings, shown: Progress) -> Iterator[StoredFile]:
    wanted = [each for each in held.files() if found.include(each[1])]
    bar = shown.add_task("files", total=len(wanted))
    parts: dict[tuple[int, int], Part] = {}
    for area, key, link in wanted:
        with link.open("rb") as source:
            status = os.fstat(source.fileno())
            same = (status.st_dev, status.st_ino)  # a copy in the file store is a link
            if same not in parts:
                parts[same] = archive.add_file(source, status.st_size)
        shown.advance(bar)
        yield StoredFile(area, key, parts[same])


def _sealed_keys(data_dir: Path, passphrase: str) -> bytes:
    found = {name: (data_dir / name).read_bytes() for name in KEY_FILES if (data_dir / name).exists()}
    if "keys/variables.key" not in found:
        raise BackupRefused(f"There is no key file {data_dir / 'keys' / 'variables.key'}: is this the data folder?")
    return seal_with_passphrase(msgspec.msgpack.encode(found), passphrase)

"""`hearth restore`: a backup put back, while no server works on the data folder.

Everything is read and checked before anything here changes: files and keys are staged in a folder of the data folder,
rows in a transaction or a database of their own.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.progress import Progress

from hearth.auth.passphrases import WrongPassphrase, open_with_passphrase
from hearth.auth.secrets import KeyFileRefused, VariableCipher, load_or_create_key
from hearth.cli.admin import EXIT_FAILED, EXIT_NOT_ALLOWED, say
from hearth.cli.backup import KEY_FILES, private_file, progress, read_passphrase
from hearth.datafolder import DataFolder, FolderRefused
from hearth.identity import NotAllowed, become_server, server_identity
from hearth.model import times
from hearth.model.refusals import PlatformFault
from hearth.runtimes.machine import packs_of
from hearth.settings import Settings
from hearth.store.archive import ArchiveReader, BackupRefused, Manifest
from hearth.store.files.copying import AREAS, placed
from hearth.store.files.local import is_key
from hearth.store.sql.address import DEFAULT_FILE, Address, AddressRefused, parse_address
from hearth.store.sql.importing import import_all, import_project
from hearth.store.sql.migrating import migrate

_STAGE = "restoring"
_KEY = "keys/variables.key"
#: What of a data folder an installation consists of; the rest is made anew.
_OWN = ("files", "keys", "credentials.json", "intents.log")


def restore(
    settings: Settings,
    source: Path,
    project: str,
    passphrase_file: Path | None,
    *,
    may_replace: bool,
    only_check: bool,
) -> int:
    """Put back what `source` holds; with `project`, that project alone, beside others. `only_check` changes nothing."""
    try:
        with source.open("rb") as file:
            backup = ArchiveReader(file)
            wanted = project or backup.manifest.project
            _check_project(backup.manifest, wanted)
            keys = _keys_of(backup, passphrase_file) if not only_check else {}
            if only_check:
                return _checked(backup)
            return _restored(settings, backup, wanted, keys, may_replace=may_replace)
    except (NotAllowed, FolderRefused) as error:
        return say("\n".join(getattr(error, "lines", [str(error)])), EXIT_NOT_ALLOWED)
    except (BackupRefused, WrongPassphrase, AddressRefused, KeyFileRefused) as error:
        return say(str(error), EXIT_NOT_ALLOWED)
    except PlatformFault as error:
        return say(str(error), EXIT_FAILED)
    except OSError as error:
        return say(f"{error.filename or source}: {error.strerror or error}.", EXIT_FAILED)


def _checked(backup: ArchiveReader) -> int:
    with progress() as shown:
        bar = shown.add_task("bytes", total=backup.manifest.size)
        for size in backup.verify():
            shown.advance(bar, size)
    print(described(backup.manifest))
    return 0


def described(manifest: Manifest) -> str:
    """What a backup holds, in a line."""
    rows = sum(table.rows for table in manifest.tables)
    what = f"project {manifest.project}" if manifest.project else "whole installation"
    keys = "with keys" if manifest.keys is not None else "without keys"
    return (
        f"{what} of {manifest.created_at}, hearth {manifest.hearth}, schema {manifest.schema}, {manifest.engine}: "
        f"{rows} rows, {len(manifest.files)} files, {keys}; every digest is right"
    )


def _check_project(manifest: Manifest, wanted: str) -> None:
    if manifest.project and wanted != manifest.project:
        raise BackupRefused(f"The backup holds the project {manifest.project} only, not {wanted}.")


def _keys_of(backup: ArchiveReader, passphrase_file: Path | None) -> dict[str, bytes]:
    """The key files of a backup, by name; none where it was made without."""
    part = backup.manifest.keys
    if part is None:
        return {}
    found = msgspec.msgpack.decode(open_with_passphrase(backup.read(part), read_passphrase(passphrase_file)))
    return {name: bytes(found[name]) for name in KEY_FILES if name in found}


@dataclass(frozen=True, slots=True)
class _Task:
    """One restore. `project` is `""` for everything; `told` is called with each number of rows that is in."""

    settings: Settings
    backup: ArchiveReader
    project: str
    keys: Mapping[str, bytes]
    may_replace: bool
    shown: Progress
    told: Callable[[int], None]


def _restored(
    settings: Settings, backup: ArchiveReader, project: str, keys: Mapping[str, bytes], *, may_replace: bool
) -> int:
    uid, gid = server_identity(settings)
    folder = DataFolder(settings.data_dir)  # holds its lock until this process ends
    folder.open(uid, gid)
    become_server(settings)
    with progress() as shown:
        rows = shown.add_task("rows", total=sum(table.rows for table in backup.manifest.tables))
        task = _Task(settings, backup, project, keys, may_replace, shown, lambda count: shown.advance(rows, count))
        asyncio.run(_project(task) if project else _everything(task))
    print(f"restored: {described(backup.manifest)}")
    missing = sorted(
        set(backup.manifest.runtimes)
        - {pack.id for pack in packs_of(settings.packs_folder, settings.docker_images).all()}
    )
    if missing:
        print(f"Functions here need runtimes that are not installed: hearth runtimes install {' '.join(missing)}")
    return 0


async def _everything(task: _Task) -> None:
    data_dir = task.settings.data_dir
    address = parse_address(task.settings.database_url, data_dir)
    present = [name for name in _present(data_dir, address) if task.keys or name != "keys"]
    if present and not task.may_replace:
        raise BackupRefused(
            f"{data_dir} holds an installation already ({', '.join(present)}). `--replace` puts the backup in its "
            "place and keeps what is there in a folder beside it."
        )
    if not task.keys and not (data_dir / _KEY).exists():
        raise BackupRefused(
            f"The backup was made without its keys. Put the file {_KEY} of that installation into {data_dir} first."
        )
    key = task.keys[_KEY] if task.keys else load_or_create_key(data_dir / _KEY, may_create=False)
    cipher = VariableCipher(key)
    with _stage(data_dir) as stage:
        _place(task, stage, lambda _: True)
        for name, content in task.keys.items():
            _write_secret(stage / name, content)
        if address.path is None:
            await import_all(
                address,
                task.backup,
                key=cipher,
                may_replace=task.may_replace,
                told=task.told,
                before_commit=lambda: _swap(data_dir, stage, None),
            )
            return
        path = stage / DEFAULT_FILE
        staged = Address(address.url.set(database=str(path)), path)
        await import_all(staged, task.backup, key=cipher, may_replace=False, told=task.told)
        _swap(data_dir, stage, address.path)


async def _project(task: _Task) -> None:
    data_dir = task.settings.data_dir
    address = parse_address(task.settings.database_url, data_dir)
    if address.path is not None and not address.path.exists():
        raise BackupRefused(
            "There is no installation here. Start the server once, then restore a project beside its others."
        )
    new = load_or_create_key(data_dir / _KEY, may_create=False)
    await migrate(address)
    with _stage(data_dir) as stage:
        await import_project(
            address,
            task.backup,
            task.project,
            scratch=stage,
            old=VariableCipher(task.keys.get(_KEY, new)),
            new=VariableCipher(new),
            may_replace=task.may_replace,
            told=task.told,
            before_commit=lambda belongings: _place(task, data_dir, belongings.include),
        )


def _present(data_dir: Path, address: Address) -> Iterator[str]:
    """What of an installation is here already."""
    if address.path is not None and address.path.exists():
        yield address.path.name
    for name in _OWN:
        path = data_dir / name
        if path.is_file() or (path.is_dir() and any(entry.is_file() for entry in path.rglob("*"))):
            yield name


@contextmanager
def _stage(data_dir: Path) -> Iterator[Path]:
    """An empty folder in the data folder, for what is put into its place at the end."""
    stage = data_dir / _STAGE
    if stage.exists():
        shutil.rmtree(stage)  # of a restore that was killed
    stage.mkdir(mode=0o700)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _place(task: _Task, folder: Path, include: Callable[[str], bool]) -> None:
    """Write the files whose keys are included below `folder`, which stands for a data folder."""
    wanted = [file for file in task.backup.manifest.files if include(file.key)]
    bar = task.shown.add_task("files", total=len(wanted))
    for file in wanted:
        if file.area not in AREAS or not is_key(file.key):
            raise BackupRefused(f"The backup names a file that cannot be one of the file store: {file.key!r}")
        with placed(folder, file.area, file.key) as target:
            task.backup.copy(file.part, target)
        task.shown.advance(bar)


def _write_secret(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with private_file(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(data_dir: Path, stage: Path, database: Path | None) -> None:
    """Put what was staged in its place; what was there goes into a folder beside it, and stays."""
    former = data_dir / f"replaced-{times.now():%Y%m%dT%H%M%S%fZ}"
    names = [name for name in _OWN if name != "keys" or (stage / name).exists()]
    leaving = [data_dir / name for name in names]
    if database is not None:
        leaving += [database.with_name(database.name + end) for end in ("", "-wal", "-shm")]
    for path in leaving:
        if path.exists():
            former.mkdir(mode=0o700, exist_ok=True)
            shutil.move(path, former / path.name)
    for name in names:
        if (stage / name).exists():
            (stage / name).replace(data_dir / name)
    if database is not None:
        shutil.move(stage / DEFAULT_FILE, database)
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if former.exists():
        print(f"What was here is in {former}. Remove it when it is not needed any more.")

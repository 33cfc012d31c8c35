"""`hearth upgrade --check`: what this version would do to the data that is here. Changes nothing.

Run it with the new version beside the server of the old one. On SQLite the migrations are tried on a copy.
"""

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from hearth.cli.admin import EXIT_FAILED, EXIT_NOT_ALLOWED, say
from hearth.cli.backup import backup_folder
from hearth.identity import NotAllowed, become_server
from hearth.model.refusals import PlatformFault
from hearth.runtimes.machine import packs_of
from hearth.settings import Settings
from hearth.store.archive import BackupRefused
from hearth.store.sql.address import AddressRefused, parse_address
from hearth.store.sql.exporting import copy_database
from hearth.store.sql.migrating import DatabaseTooNew, migrate
from hearth.store.sql.upgrading import look

#: A migration may write every table anew, and the log of it beside it.
_DISK_TIMES = 2


def check(settings: Settings) -> int:
    """Say what is pending and what stands against it: 0 the upgrade works, 1 it would fail, 78 it cannot be tried."""
    try:
        if not settings.data_dir.is_dir():
            raise NotAllowed([f"There is no data folder at {settings.data_dir}."])
        become_server(settings)
        return asyncio.run(_check(settings))
    except NotAllowed as error:
        return say("\n".join(error.lines), EXIT_NOT_ALLOWED)
    except (AddressRefused, BackupRefused) as error:
        return say(str(error), EXIT_NOT_ALLOWED)
    except DatabaseTooNew as error:
        return say(str(error), EXIT_FAILED)
    except PlatformFault as error:
        return say(f"The upgrade would fail: {error}", EXIT_FAILED)


async def _check(settings: Settings) -> int:
    address = parse_address(settings.database_url, settings.data_dir)
    if address.path is not None and not address.path.exists():
        raise BackupRefused(f"There is no database at {address.path}.")
    state = await look(address)
    problems = _missing_runtimes(settings, state.runtimes)
    print(f"schema of the data: {state.schema or 'none'}; of this version: {state.head}")
    for step in state.pending:
        print(f"  pending: {step}")
    if state.pending and address.path is not None:
        problems += await _tried(settings, address.path)
    elif state.pending:
        print("  not tried: the migrations run in one transaction at the first start. Make a backup before.")
    for problem in problems:
        say(problem, EXIT_FAILED)
    if not problems:
        print("This version can take over." if state.pending else "Nothing to do: this version works with the data.")
    return EXIT_FAILED if problems else 0


def _missing_runtimes(settings: Settings, wanted: Sequence[str]) -> list[str]:
    missing = sorted(set(wanted) - {pack.id for pack in packs_of(settings.packs_folder, settings.docker_images).all()})
    return (
        [f"Functions need runtimes that are not here: hearth runtimes install {' '.join(missing)}"] if missing else []
    )


async def _tried(settings: Settings, path: Path) -> list[str]:
    """Migrate a copy, and say how long it took; what stands against the upgrade is returned."""
    size = path.stat().st_size
    free, needed = shutil.disk_usage(path.parent).free, size * _DISK_TIMES
    problems = []
    if free < needed:
        problems.append(f"The upgrade needs {needed // 1_000_000} MB beside {path}; {free // 1_000_000} MB are free.")
    with backup_folder(settings.data_dir) as scratch:
        copy = scratch / "trial.db"
        copy_database(path, copy)
        began = time.monotonic()
        await migrate(parse_address(f"sqlite:///{copy}", scratch))
        print(f"  tried on a copy of {size // 1_000_000} MB: {time.monotonic() - began:.1f} s")
    return problems

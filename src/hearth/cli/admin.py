"""`hearth admin`: what an operator does to an installation from outside its server.

Both commands work on the database itself, as the server's own user. A sweep is asked of the running server by a job,
because only it knows what its instances and caches hold.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from rich.console import Console

from hearth.auth.secrets import KeyFileRefused, VariableCipher, load_or_create_key
from hearth.clock import SystemClock
from hearth.control.bootstrap import PROJECT_ID
from hearth.control.jobs import sweep_job
from hearth.identity import NotAllowed, become_server
from hearth.model import times
from hearth.model.refusals import PlatformFault
from hearth.model.statuses import JobStatus
from hearth.ports import Store, Unit
from hearth.settings import Settings
from hearth.store import open_store
from hearth.store.sql.address import AddressRefused
from hearth.store.sql.keycheck import WrongKey

EXIT_FAILED = 1
EXIT_NOT_ALLOWED = 78
#: Seconds until a running server has looked at its queue for certain, and until a sweep is given up.
PICKED_UP_WITHIN_S = 15.0
SWEEP_WAIT_S = 600.0
_POLL_S = 0.2

Work = Callable[[Store], Awaitable[int]]

RESOURCE_TYPES = ("deployments", "executions", "functions", "variables")


def maintenance(settings: Settings) -> int:
    """Have the running server remove, now, what is past its retention; wait until it has."""
    return run_on_store(settings, _maintenance)


def time_travel(settings: Settings, project_id: str, resource_type: str, resource_id: str, created_at: str) -> int:
    """Move the creation date of one resource, so that retention can be tried."""
    if resource_type not in RESOURCE_TYPES:
        return say(f"--resource-type must be one of {', '.join(RESOURCE_TYPES)}, not {resource_type}.", 2)
    try:
        moment = times.truncate(times.parse(created_at))
    except ValueError:
        return say(f"--created-at must be an ISO 8601 date, not {created_at}.", 2)

    async def move(store: Store) -> int:
        async with store.begin(project_id) as unit:
            if not await _set_created_at(unit, resource_type, resource_id, moment):
                return say(f"Project {project_id} has no such resource: {resource_type} {resource_id}.", EXIT_FAILED)
        print(f"{resource_type} {resource_id}: created at {times.to_wire(moment)}")
        return 0

    return run_on_store(settings, move)


def run_on_store(settings: Settings, work: Work) -> int:
    try:
        if not settings.data_dir.is_dir():
            raise NotAllowed([f"There is no data folder at {settings.data_dir}."])
        become_server(settings)
        return asyncio.run(_with_store(settings, work))
    except NotAllowed as error:
        return say("\n".join(error.lines), EXIT_NOT_ALLOWED)
    except (KeyFileRefused, WrongKey, AddressRefused) as error:
        return say(str(error), EXIT_NOT_ALLOWED)
    except PlatformFault as error:
        return say(str(error), EXIT_FAILED)


async def _with_store(settings: Settings, work: Work) -> int:
    async with _opened(settings) as store:
        return await work(store)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Store]:
    key = load_or_create_key(settings.data_dir / "keys" / "variables.key", may_create=False)
    cipher = VariableCipher(key)
    store = await open_store(settings.database_url, data_dir=settings.data_dir, secret=cipher, clock=SystemClock())
    try:
        yield store
    finally:
        await store.close()


async def _maintenance(store: Store) -> int:
    job = await store.jobs.enqueue(sweep_job(PROJECT_ID, times.now()))
    begun = time.monotonic()
    with Console(stderr=True).status("waiting for the server"):
        while True:
            found = await store.jobs.get(job.id)
            if found is None or found.status is JobStatus.DONE:
                print("What was past its retention has been removed.")
                return 0
            waited = time.monotonic() - begun
            if found.status is JobStatus.DEAD:
                return say(f"The sweep failed: {found.error}", EXIT_FAILED)
            if found.status is JobStatus.QUEUED and found.attempts == 0 and waited > PICKED_UP_WITHIN_S:
                await store.jobs.cancel_of(job.kind, job.resource_id)
                return say("No server works on this data folder. Start it: it sweeps at its start.", EXIT_FAILED)
            if waited > SWEEP_WAIT_S:
                return say(f"The sweep goes on in the server; waited {SWEEP_WAIT_S:g} s for it.", EXIT_FAILED)
            await asyncio.sleep(_POLL_S)


async def _set_created_at(unit: Unit, resource_type: str, resource_id: str, moment: datetime) -> bool:
    if resource_type == "deployments":
        return await unit.deployments.update(resource_id, created_at=moment) is not None
    if resource_type == "executions":
        return await unit.executions.set_created_at(resource_id, moment)
    if resource_type == "functions":
        return await unit.functions.update(resource_id, created_at=moment) is not None
    return await unit.variables.update(resource_id, created_at=moment) is not None


def say(text: str, code: int) -> int:
    print(f"hearth: {text}", file=sys.stderr)
    return code

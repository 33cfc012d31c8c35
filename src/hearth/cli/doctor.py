"""`hearth doctor`: looks at the machine and the installation and says what is wrong and what to do about it."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from hearth.cli.unfinished import explain
from hearth.executor.sandbox.facilities import probe_facilities
from hearth.identity import NotAllowed, become_server, server_identity
from hearth.model import times
from hearth.model.refusals import PlatformFault
from hearth.runtimes.families import has_shim
from hearth.runtimes.machine import packs_of
from hearth.runtimes.shelf import installed
from hearth.server import github_app_of, spawner_config
from hearth.settings import Loaded, Settings
from hearth.store.sql.address import AddressRefused
from hearth.store.sql.inspection import ROWS_MAX, inspect_database

_WITHSTANDS = "withstands code that goes for other functions, the files, processes or network of this machine"
_NOT = "but not one with an exploit of the Linux kernel, which it shares"
STRENGTHS = {
    "shared kernel": f"driver ns: namespaces, a user per sandbox, few system calls; {_WITHSTANDS}, {_NOT}",
    "user namespace": f"driver ns below an ordinary user, so that even its spawner has no rights of root here; "
    f"{_WITHSTANDS}, {_NOT}, and what breaks out is that user",
    "runc": f"driver oci: the confinement of ns made by runc, without Landlock; {_WITHSTANDS}, {_NOT}",
    "gVisor": f"driver oci with runsc: a kernel of its own, gVisor's, between the code and that of this machine; "
    f"{_WITHSTANDS}, and nearly always one with an exploit of the Linux kernel, which it cannot reach",
    "docker": f"driver docker: the confinement of ns in a container of the runtime's image, ns itself for the others; "
    f"{_WITHSTANDS}, {_NOT}, and who runs the Docker daemon is root here",
}
"""How strong each way of making sandboxes is: name -> what it withstands, a sentence each."""
GREEN, YELLOW, RED = "green", "yellow", "red"
#: Free space of the data folder's disk below which new builds and logs are in danger.
DISK_RED_BYTES = 512 * 1024 * 1024
DISK_YELLOW_BYTES = 4 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `colour` is green, yellow or red; `fix` says what to do unless it is green."""

    area: str
    name: str
    colour: str
    detail: str
    fix: str = ""


def run(loaded: Loaded, *, as_json: bool) -> int:
    """Print the findings; 1 if anything is red."""
    settings = loaded.settings
    try:
        findings = [*_machine(settings), *git_hosts(settings)]
    except NotAllowed as error:
        findings = [Finding("machine", "settings", RED, line) for line in error.lines]
    else:
        # As the server itself: root must not leave files of its own beside the database.
        become_server(settings)
        findings += _disk(settings)
        findings += asyncio.run(_database(settings))
    red = any(finding.colour == RED for finding in findings)
    if as_json:
        print(json.dumps({"ok": not red, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    return 1 if red else 0


def _machine(settings: Settings) -> Iterator[Finding]:
    packs = packs_of(settings.packs_folder, settings.docker_images)
    config = spawner_config(settings, *server_identity(settings), packs)
    for facility in probe_facilities(config):
        name = f"{facility.name}{f' (--weaken={facility.flag})' if facility.flag else ''}"
        weakened = facility.flag != "" and facility.flag in settings.weakened
        if facility.ok and not weakened:
            yield Finding("isolation", name, GREEN, facility.detail)
        else:
            colour = RED if facility.mandatory or weakened else YELLOW
            detail = f"weakened by the operator: {facility.detail}" if weakened else facility.detail
            yield Finding("isolation", name, colour, detail, facility.fix)
    name = strength_of(settings.sandbox_driver, is_root=os.geteuid() == 0, has_gvisor=config.has_gvisor)
    yield Finding("isolation", "strength", GREEN, f"{name}: {STRENGTHS[name]}")
    found = packs.all()
    for pack in found:
        yield Finding("runtimes", pack.id, GREEN, f"{pack.version}, {pack.level}, from {pack.provider}")
    if not found:
        yield Finding(
            "runtimes",
            "none",
            RED,
            "no function can run",
            "hearth runtimes install node-22, or install Node.js or Python 3",
        )
    for manifest in installed(settings.packs_folder):
        if not has_shim(manifest.family):
            detail = f"{manifest.version} is installed, but this version of Hearth cannot run {manifest.family}"
            yield Finding("runtimes", manifest.id, YELLOW, detail, f"hearth runtimes remove {manifest.id}")


def strength_of(driver: str, *, is_root: bool, has_gvisor: bool = False) -> str:
    """The name of the strength of a driver, as whoever starts the server has it."""
    if has_gvisor:
        return "gVisor"
    return {"oci": "runc", "docker": "docker"}.get(driver, "shared kernel" if is_root else "user namespace")


def git_hosts(settings: Settings) -> Iterator[Finding]:
    """Whether the operator's GitHub App can be used as it is set up here; nobody is asked."""
    if not settings.github_app_id:
        yield Finding("git hosts", "GitHub App", GREEN, "none is set up; other hosts and tokens need none")
        return
    try:
        github_app_of(settings)
    except NotAllowed as error:
        fix = "Make a new private key on the app's page at GitHub, and name its file"
        yield Finding("git hosts", "GitHub App", RED, error.lines[0], fix)
    else:
        detail = (
            f"{settings.github_app_slug} (id {settings.github_app_id}) at {settings.github_url}; its key is readable"
        )
        yield Finding("git hosts", "GitHub App", GREEN, detail)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    colour = RED if free < DISK_RED_BYTES else YELLOW if free < DISK_YELLOW_BYTES else GREEN
    fix = "" if colour == GREEN else "Make room, or move the data folder (--data-dir)"
    yield Finding("disk", str(settings.data_dir), colour, f"{free / 2**30:.1f} GiB free", fix)


async def _database(settings: Settings) -> list[Finding]:
    try:
        found = await inspect_database(settings.database_url, data_dir=settings.data_dir)
    except (PlatformFault, AddressRefused, OSError) as error:
        return [Finding("database", "answer", RED, str(error), "Check --database-url and whether the database runs")]
    if not found.exists:
        return [Finding("database", found.engine, GREEN, "not there yet; the first start makes it")]
    findings = [Finding("database", found.engine, GREEN, "answers")]
    now = times.now()
    for row in found.unfinished:
        explained = explain(row, now)
        colour = RED if explained.stuck else YELLOW if explained.fix else GREEN
        name = f"{row.kind} {row.id} (project {row.project_id})"
        findings.append(Finding("unfinished", name, colour, explained.detail, explained.fix))
    if found.total > len(found.unfinished):
        shown = f"{found.total} in all; the oldest {ROWS_MAX} of each kind are shown"
        findings.append(Finding("unfinished", "more", GREEN, shown))
    return findings


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "area", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        detail = f"{finding.detail}\n{finding.fix}" if finding.fix else finding.detail
        table.add_row(f"[{finding.colour}]{finding.colour}[/]", finding.area, finding.name, detail)
    Console().print(table)

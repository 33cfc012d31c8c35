"""The life of the server process, from root to its exit code.

Order of a start: look at the machine, take the data folder and the port, start the two helper processes, give up
every privilege for good, and only then open the database and listen.
"""

import asyncio
import contextlib
import hmac
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import uvloop

import hearth
from hearth import telemetry, tracing
from hearth.app import Application
from hearth.auth.secrets import KeyFileRefused, load_or_create_key
from hearth.build.fetcher import TemplatesHost
from hearth.datafolder import DataFolder, FolderRefused
from hearth.executor.sandbox.config import API_NAME, GateConfig, SpawnerConfig
from hearth.executor.sandbox.facilities import probe_facilities
from hearth.executor.sandbox.launch import Helper, LaunchFailed, start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from hearth.executor.sandbox.privileges import drop_privileges
from hearth.executor.sandbox.spec import Facility
from hearth.executor.sandbox.userns import for_ordinary_user
from hearth.identity import NotAllowed, home_of, kept_paths, server_identity
from hearth.model.refusals import PlatformFault
from hearth.runtimes.images import parse_images
from hearth.runtimes.installer import sweep
from hearth.runtimes.machine import packs_of
from hearth.runtimes.packs import Packs
from hearth.runtimes.registries import Registries, client_registries
from hearth.runtimes.shelf import mark_in_use, prepare_folder
from hearth.serving import endpoint_of, listen, listen_for_figures, reachable, serve_until
from hearth.settings import Settings
from hearth.settings_parts import local_repositories
from hearth.store.sql.address import AddressRefused
from hearth.store.sql.keycheck import WrongKey
from hearth.store.sql.migrating import DatabaseTooNew
from hearth.store.sql.store import holds_data
from hearth.vcs.forges import app_keys
from hearth.vcs.github_app import AppKeys

log = structlog.get_logger(__name__)

EXIT_FAILED = 1
EXIT_NOT_ALLOWED = 78

#: Where in the folder `keys` the token for /metrics is.
METRICS_TOKEN_FILE = "metrics.token"  # noqa: S105 - a name


def serve(settings: Settings) -> int:
    """Run the server until SIGINT or SIGTERM and return its exit code (0 fine, 1 failed, 78 not allowed here)."""
    telemetry.configure(settings.log_level, settings.log_format)
    try:
        return _serve(settings)
    except NotAllowed as reason:
        for line in reason.lines:
            print(f"hearth: {line}", file=sys.stderr)
        return EXIT_NOT_ALLOWED


def spawner_config(settings: Settings, uid: int, gid: int, packs: Packs) -> SpawnerConfig:
    """What the spawner may do for this server."""
    first, last = settings.uids
    shims = Path(hearth.__file__).resolve().parent / "runtimes" / "shims"
    shelf = settings.packs_folder  # as a whole: more packs may be installed while the server runs
    sources = {Path(source) for pack in packs.all() for source, _ in pack.mounts}
    mounts = {str(source if source.is_dir() else source.parent) for source in sources if shelf not in source.parents}
    mounts |= {str(shelf)} if shelf.is_dir() else set()
    config = SpawnerConfig(
        data_folder=str(settings.data_dir),
        server_uid=uid,
        server_gid=gid,
        read_only_bases=(
            str(shims),
            *sorted(mounts),
            *filter(None, [TemplatesHost.of(settings.templates_url).mirror]),
            *local_repositories(settings).folders,
        ),
        uid_first=first,
        uid_count=last - first + 1,
        weaken=tuple(sorted(settings.weakened)),
        driver=settings.sandbox_driver,
        oci_runtime=settings.oci_program,
        blanks=settings.blanks,
        docker_socket=settings.docker_socket,
        images=tuple(sorted({row.image for row in parse_images(settings.docker_images)})),
    )
    return config if os.geteuid() == 0 else for_ordinary_user(config)


def missing(facilities: Sequence[Facility], weakened: frozenset[str]) -> list[str]:
    """One line for each mandatory facility that is not there and not named by `--weaken`."""
    lines = []
    for facility in facilities:
        if facility.ok or not facility.mandatory or (facility.flag and facility.flag in weakened):
            continue
        line = f"{facility.name}: {facility.detail}. {facility.fix}"
        lines.append(f"{line} Or go on without it: --weaken={facility.flag}" if facility.flag else line)
    return lines


def _serve(settings: Settings) -> int:
    uid, gid = server_identity(settings)
    packs = packs_of(settings.packs_folder, settings.docker_images)
    registries = client_registries()
    lines = missing(probe_facilities(spawner_config(settings, uid, gid, packs)), settings.weakened)
    if lines:
        raise NotAllowed(lines)
    folder = DataFolder(settings.data_dir)
    try:
        folder.open(uid, gid)
    except FolderRefused as error:
        raise NotAllowed([str(error)]) from error
    _open_packs(settings)
    github_app = github_app_of(settings)
    config = spawner_config(settings, uid, gid, packs)
    with contextlib.closing(listen(settings)) as listener, contextlib.ExitStack() as helpers:
        figures = listen_for_figures(settings)
        if figures is not None:
            helpers.callback(figures.close)
        spawner, gate = _start_helpers(settings, config, registries, listener, helpers)
        drop_privileges(uid, gid, kept_paths(settings))
        os.environ["HOME"] = home_of(uid, settings)
        _take_open_files()
        _say(settings, registries)
        return uvloop.run(_run(settings, spawner, gate, packs, registries, github_app, listener, figures))


def _take_open_files() -> None:
    """Open as many files as the system lets this process: an instance takes four, a connection one."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def github_app_of(settings: Settings) -> AppKeys | None:
    """The operator's GitHub App, None where he set none up. Raises NotAllowed for a private key that cannot be used."""
    try:
        return app_keys(settings)
    except ValueError as error:
        raise NotAllowed([str(error)]) from error


def _open_packs(settings: Settings) -> None:
    """Make the folder of packs, free what was removed from it, and keep what is there until this process ends."""
    folder = settings.packs_folder
    try:
        prepare_folder(folder)
        sweep(folder)
        mark_in_use(folder)
    except OSError as error:
        reason = f"The folder of runtimes {folder} cannot be used: {error.strerror}. Choose another --packs-dir."
        raise NotAllowed([reason]) from error


def _start_helpers(
    settings: Settings,
    config: SpawnerConfig,
    registries: Registries,
    listener: socket.socket,
    helpers: contextlib.ExitStack,
) -> tuple[Helper, Helper]:
    """The two other processes of a server. They end when this one does, in whatever way."""
    host, port = listener.getsockname()[:2]
    gate_config = GateConfig(
        uid=config.server_uid,
        gid=config.server_gid,
        keep=kept_paths(settings),
        allow=tuple(entry.strip() for entry in settings.egress_allow.split(",") if entry.strip()),
        registry_hosts=registries.hosts,
        api=(reachable(host), port),
    )
    try:
        spawner = start_spawner(config)
        helpers.callback(spawner.stop)
        gate = start_gate(gate_config)
        helpers.callback(gate.stop)
    except LaunchFailed as error:
        raise NotAllowed([str(error)]) from error
    return spawner, gate


async def _keys(settings: Settings) -> dict[str, Any]:
    """The installation's secrets. Raises NotAllowed rather than making a new key for old data."""
    folder = settings.data_dir / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    used = await holds_data(settings.database_url, data_dir=settings.data_dir)
    # Signs keys that live for minutes only: a new one costs nothing but the runs of this moment.
    tokens_key = load_or_create_key(folder / "tokens.key", may_create=True)
    return {
        "variables_key": load_or_create_key(folder / "variables.key", may_create=not used),
        "tokens_key": tokens_key,
        "metrics_token": _metrics_token(folder / METRICS_TOKEN_FILE, tokens_key),
    }


def _metrics_token(path: Path, key: bytes) -> str:
    """Who bears it may read the figures. It follows from the key; the file is for the one who is to have it."""
    token = hmac.new(key, b"hearth metrics", "sha256").hexdigest()
    try:
        path.unlink(missing_ok=True)
        with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(token)
    except OSError as error:
        # The disk may be full, which is no reason not to start: the figures are wanted then.
        log.warning("the token for /metrics could not be written", path=str(path), reason=error.strerror)
    return token


def _say(settings: Settings, registries: Registries) -> None:
    for warning in registries.warnings:
        log.warning("package client configuration", detail=warning)
    if settings.weakened:
        log.warning("ISOLATION IS WEAKENED by the operator", facilities=sorted(settings.weakened))


async def _run(
    settings: Settings,
    spawner: Helper,
    gate: Helper,
    packs: Packs,
    registries: Registries,
    github_app: AppKeys | None,
    listener: socket.socket,
    figures: socket.socket | None,
) -> int:
    """The event loop's whole life: open, serve, and close in order when told to or when a part is lost."""
    stop = asyncio.Event()
    lost = asyncio.Event()

    def on_lost(why: str) -> None:
        log.error("sandboxes are lost, the server ends", reason=why)
        lost.set()
        stop.set()

    tracing.start()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        driver = NsDriver(spawner, gate, on_lost)
        app = Application(
            settings,
            driver=driver,
            egress_refused=driver.egress_refused,
            packs=packs,
            registries=registries,
            github_app=github_app,
            function_endpoint=f"http://{API_NAME}/v1",
            **await _keys(settings),
        )
        await app.start(endpoint_of(listener))
    except (KeyFileRefused, AddressRefused, WrongKey, DatabaseTooNew) as error:
        raise NotAllowed([str(error)]) from error
    except PlatformFault as error:
        log.error("the server could not be started", reason=str(error), exc_info=True)
        return EXIT_FAILED
    await serve_until(app, listener, figures, stop)
    await asyncio.to_thread(tracing.stop)
    return EXIT_FAILED if lost.is_set() else 0

"""The life of the server process, from root to its exit code.

Order of a start: look at the machine, take the data folder and the port, start the two helper processes, give up
every privilege for good, and only then open the database and listen.
"""

import asyncio
import contextlib
import gc
import hmac
import os
import pwd
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop

import hearth
from hearth import telemetry, tracing
from hearth.api.http import hot_protocol
from hearth.api.metrics import listen_app
from hearth.app import Application, local_repositories
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
from hearth.model.refusals import PlatformFault
from hearth.runtimes.images import parse_images
from hearth.runtimes.installer import sweep
from hearth.runtimes.machine import packs_of
from hearth.runtimes.packs import Packs
from hearth.runtimes.registries import Registries, client_registries
from hearth.runtimes.shelf import mark_in_use, prepare_folder
from hearth.settings import Settings
from hearth.store.sql.address import AddressRefused
from hearth.store.sql.keycheck import WrongKey
from hearth.store.sql.migrating import DatabaseTooNew
from hearth.store.sql.store import holds_data
from hearth.vcs.forges import app_keys
from hearth.vcs.github_app import AppKeys

#: New objects before a round over the young, and rounds before one over the next older (Python: 700, 10, 10).
COLLECTOR_THRESHOLDS = (10_000, 20, 20)

#: How long a connection may be idle. Longer than an instance is: what a function keeps open for its next execution
#: is not closed while it is frozen, when it would find that out only by a request that fails.
IDLE_CONNECTION_S = 75

log = structlog.get_logger(__name__)

EXIT_FAILED = 1
EXIT_NOT_ALLOWED = 78

#: The uid and gid of the server when it is started by root and its user does not exist (outside sandboxes' range).
FALLBACK_UID = 61_100
#: Seconds the HTTP server waits for open connections after everything that runs has ended.
CONNECTION_GRACE_S = 5
#: Where in the folder `keys` the token for /metrics is.
METRICS_TOKEN_FILE = "metrics.token"  # noqa: S105 - a name
#: Connections at once on the listener of the figures, the rest are answered 503.
METRICS_READERS = 16
#: Bytes of one message of a realtime client; the API's own limit is in characters.
REALTIME_FRAME_BYTES = 256 * 1024


class NotAllowed(Exception):
    """The machine or the configuration does not allow a start: one line per reason, each with its fix."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        super().__init__("; ".join(lines))


def serve(settings: Settings) -> int:
    """Run the server until SIGINT or SIGTERM and return its exit code (0 fine, 1 failed, 78 not allowed here)."""
    telemetry.configure(settings.log_level, settings.log_format)
    try:
        return _serve(settings)
    except NotAllowed as reason:
        for line in reason.lines:
            print(f"hearth: {line}", file=sys.stderr)
        return EXIT_NOT_ALLOWED


def server_identity(settings: Settings) -> tuple[int, int]:
    """The uid and gid the server runs as: its user's, a number of its own without one, or the caller's if not root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        return FALLBACK_UID, FALLBACK_UID
    if entry.pw_uid == 0:
        raise NotAllowed(["user: the server does not run as root. Name an ordinary user (--user), existing or not."])
    return entry.pw_uid, entry.pw_gid


def home_of(uid: int, settings: Settings) -> str:
    """Where libraries look for files of the user (PostgreSQL's client its certificates): never in root's home.

    A user without an account, or whose home is not there, gets the data folder.
    """
    try:
        home = pwd.getpwuid(uid).pw_dir
    except KeyError:
        return str(settings.data_dir)
    return home if os.access(home, os.X_OK) else str(settings.data_dir)


def become_server(settings: Settings) -> None:
    """Work on as the server's own user from here, if this is root: for commands that touch what the server keeps.

    Raises NotAllowed where there is no such user.
    """
    uid, gid = server_identity(settings)
    if os.geteuid() == 0:
        drop_privileges(uid, gid, kept_paths(settings))
        os.environ["HOME"] = home_of(uid, settings)  # root's is closed now, and drivers look into it


def kept_paths(settings: Settings) -> tuple[str, ...]:
    """What an unprivileged process of ours must still reach, wherever the checkout or the interpreter lives."""
    package = Path(hearth.__file__).resolve().parent
    found = {Path(sys.prefix), Path(sys.base_prefix), package.parent, settings.data_dir, settings.packs_folder}
    return tuple(sorted(str(path) for path in found if path.exists()))


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
    with contextlib.closing(_listen(settings)) as listener, contextlib.ExitStack() as helpers:
        figures = _listen_for_figures(settings)
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
        api=(_reachable(host), port),
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


def _listen(settings: Settings) -> socket.socket:
    return _listener(settings.host, settings.port, "--host or --port")


def _listen_for_figures(settings: Settings) -> socket.socket | None:
    address = settings.metrics_address
    return None if address is None else _listener(*address, "--metrics-listen")


def _listener(host: str, port: int, flags: str) -> socket.socket:
    """A listening socket. Raises NotAllowed, naming the flags by which another one is chosen."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise NotAllowed([f"Cannot listen on {host} port {port}: {error.strerror}. Choose another {flags}."]) from error
    return listener


def _reachable(host: str) -> str:
    """Where a client on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


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
        await app.start(_endpoint(listener))
    except (KeyFileRefused, AddressRefused, WrongKey, DatabaseTooNew) as error:
        raise NotAllowed([str(error)]) from error
    except PlatformFault as error:
        log.error("the server could not be started", reason=str(error), exc_info=True)
        return EXIT_FAILED
    await _serve_until(app, listener, figures, stop)
    await asyncio.to_thread(tracing.stop)
    return EXIT_FAILED if lost.is_set() else 0


def _endpoint(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = _reachable(host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/v1"


async def _serve_until(
    app: Application, listener: socket.socket, figures: socket.socket | None, stop: asyncio.Event
) -> None:
    """Answer requests until `stop`, then refuse new ones, let running ones end, and close everything."""
    http = _Http(
        uvicorn.Config(
            app.asgi,
            http=hot_protocol(app.asgi.hot_lane, app.asgi.visit_lane),
            ws="websockets-sansio",
            ws_max_size=REALTIME_FRAME_BYTES,
            ws_per_message_deflate=False,  # a compressor for each connection costs more memory than all else of it
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",  # addresses of WebSockets, which it logs otherwise, can hold a JWT
            proxy_headers=False,  # whom to trust about the client's address is the API's own decision
            server_header=False,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=CONNECTION_GRACE_S,
            backlog=2048,
        )
    )
    _calm_collector()
    serving = asyncio.create_task(http.serve([listener]))
    metrics, showing = _figures_server(app), None
    if figures is not None:
        showing = asyncio.create_task(metrics.serve([figures]))
    log.info("listening", endpoint=_endpoint(listener), pid=os.getpid())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    log.info("stopping", grace_s=app.grace_s)
    app.refuse_new_work()
    await app.stop()
    http.should_exit = True
    await serving
    if showing is not None:
        metrics.should_exit = True
        await showing
    log.info("stopped")


def _figures_server(app: Application) -> "_Http":
    """Shows /metrics on a listener of its own, to the end of a stop."""
    return _Http(
        uvicorn.Config(
            listen_app(app.render_metrics),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=METRICS_READERS,
        )
    )


def _calm_collector() -> None:
    """Take what the start made (code, tables, routes: it stays for ever) out of the garbage collector's rounds.

    A full round over it takes some 50 ms, in which nothing is answered. What requests make is free of cycles but for
    exceptions, so the rounds over the young may be rarer than Python's, which reckons with scripts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


class _Http(uvicorn.Server):
    """uvicorn without its own signal handlers: the order of a stop is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

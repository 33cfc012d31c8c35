"""Every setting of the server, with its unit, default and origin: flag > `HEARTH_*` environment > TOML file > default.

`SETTINGS` is the one table; the flags, the environment names and `hearth config` come from it.
"""

import dataclasses
import ipaddress
import os
import tomllib
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth.runtimes.images import parse_images

ENV_PREFIX = "HEARTH_"
CONFIG_ENV = "HEARTH_CONFIG"
CONFIG_DEFAULTS = (Path("hearth.toml"), Path("/etc/hearth/hearth.toml"))

#: Files of this user's own range are given to sandboxes; see the threat model.
UID_RANGE_DEFAULT = "200000-265535"


class SettingsInvalid(Exception):
    """Settings that cannot be used; one line per problem, each naming the setting, its origin and what is right."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def _machine_cpus() -> float:
    return float(len(os.sched_getaffinity(0)))


def _machine_memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)


OCI_PROGRAMS = {"runc": "/usr/sbin/runc", "runsc": "/usr/bin/runsc"}
"""What the driver `oci` may use, and where Debian's packages have it."""
WEAKENABLE = ("cgroups", "egress", "seccomp")
"""The facilities of isolation that a server may be told to go on without."""


def _setting(
    default: Any,
    doc: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    metadata = {"doc": doc, "least": least, "most": most, "choices": choices, "secret": secret}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _words(text: str) -> list[str]:
    """The parts of a comma list."""
    return [word.strip() for word in text.split(",") if word.strip()]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server. Names are the flags' and, upper case with `HEARTH_`, the environment's."""

    data_dir: Path = _setting(Path("data"), "folder of everything the server keeps")  # noqa: RUF009 - makes a field
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8080, "port to listen on, 0 = any free one", least=0, most=65_535)
    database_url: str = _setting("", "`postgresql://...`; empty = SQLite in the data folder")
    commit_survives: str = _setting(
        "process",
        "what a commit into SQLite survives: the end of the server (process), or of the machine (an fsync each)",
        choices=("process", "machine"),
    )
    files_url: str = _setting("", "where code is kept; empty = the data folder")
    nats_url: str = _setting("", "NATS server, only when scaled out")
    grace: float = _setting(30.0, "seconds running executions get when the server is stopped", least=0, most=3_600)
    functions_domain: str = _setting("functions.localhost", "any host below it is a function's domain")
    domain_target: str = _setting("", "comma list of names or addresses other domains must lead to")
    api_domain: str = _setting("", "comma list of the API's own names, which no project may take as a domain")
    allowed_origins: str = _setting("", "comma list of host names whose web pages may call the API of every project")
    trusted_proxies: str = _setting(
        "127.0.0.1,::1", "comma list of addresses that may name the client they forward for"
    )
    body_memory_mb: int = _setting(512, "memory all request bodies together may take, MB", least=64)
    uploads_at_once: int = _setting(64, "uploads being received at the same time", least=1)
    abuse: str = _setting("on", "rate limits of the contract", choices=("on", "off"))
    function_creations_per_day: int = _setting(0, "functions a project may create in 24 h, 0 = no limit", least=0)
    templates_url: str = _setting("https://github.com", "base of template repositories; also a file:/// folder")
    git_local_paths: str = _setting("", "comma list of folders whose repositories installations may name by file://")
    git_poll_interval: float = _setting(60.0, "seconds between looks at plain git servers, 0 = never", least=0)
    github_url: str = _setting(
        "https://github.com", "where the GitHub App is registered; an Enterprise Server's address"
    )
    github_app_id: str = _setting("", "id of the GitHub App that users install; empty = none")
    github_app_slug: str = _setting("", "name of the GitHub App in the address of its page")
    github_app_private_key_file: str = _setting("", "file with the private key of the GitHub App (PEM)")
    github_client_id: str = _setting("", "client id of the GitHub App, by which its users sign in")
    github_client_secret: str = _setting("", "client secret of the GitHub App", secret=True)
    github_webhook_secret: str = _setting("", "secret of the webhook of the GitHub App", secret=True)
    egress_allow: str = _setting("", "comma list of host:port and CIDRs functions may reach besides the internet")
    region: str = _setting("default", "name of this place, shown to functions")
    log_level: str = _setting("info", "least severe message logged", choices=("debug", "info", "warning", "error"))
    log_format: str = _setting("auto", "`auto` = text on a terminal, JSON otherwise", choices=("auto", "text", "json"))
    metrics_listen: str = _setting("", "host:port that shows /metrics to whoever connects; empty = only by token")
    metrics_functions: int = _setting(
        0, "functions whose executions are counted by name in /metrics, 0 = none", least=0, most=10_000
    )
    compute_cpus: float = _setting(_machine_cpus, "largest specification offered, cores; 0 = no limit", least=0)
    compute_memory: int = _setting(_machine_memory_mb, "largest specification offered, MB; 0 = no limit", least=0)
    functions_timeout: int = _setting(900, "longest timeout a function may have, s", least=1, most=86_400)
    source_size_limit: int = _setting(30_000_000, "largest source archive, bytes; 0 = no limit", least=0)
    build_timeout: int = _setting(900, "longest build, s", least=1, most=86_400)
    build_size_limit: int = _setting(2_000_000_000, "largest build output, bytes", least=1)
    build_disk_mb: int = _setting(4_096, "disk one build may use, MB", least=16)
    build_cache_mb: int = _setting(4_096, "disk for what builds installed, MB; 0 = nothing is kept", least=0)
    build_cache_age: int = _setting(604_800, "age at which what a build installed is installed anew, s", least=60)
    build_concurrency: int = _setting(2, "builds at the same time", least=1, most=256)
    execution_retention: int = _setting(1_209_600, "age at which executions are removed, s; 0 = never", least=0)
    stream_size_limit: int = _setting(
        1_000_000_000, "largest response a function may stream, bytes; 0 = no limit", least=0
    )
    async_concurrency: int = _setting(64, "asynchronous executions at the same time", least=1, most=10_000)
    max_instances: int = _setting(1_000, "instances at the same time", least=1)
    max_instances_per_function: int = _setting(32, "instances of one deployment at the same time", least=1)
    max_waiting: int = _setting(10_000, "executions waiting for an instance at the same time", least=1)
    instance_memory_mb: int = _setting(
        0, "memory all instances together may be promised, MB; 0 = by the machine", least=0
    )
    instance_idle: float = _setting(60.0, "seconds an instance stays after its last execution", least=1)
    stems_per_runtime: int = _setting(2, "empty instances kept ready per runtime in use, 0 = none", least=0, most=100)
    stems_max: int = _setting(16, "empty instances kept ready at the same time", least=0, most=500)
    blanks: int = _setting(
        2, "sandboxes kept ready without a program, for starts that no empty instance is ready for", least=0, most=100
    )
    stems_memory_mb: int = _setting(0, "memory empty instances together may take, MB; 0 = by the machine", least=0)
    code_cache_mb: int = _setting(20_480, "disk for unpacked code, MB", least=64)
    user: str = _setting("hearth", "user the server runs as when started by root; need not exist")
    packs_dir: str = _setting("", "folder of installed runtimes; empty = `packs` in the data folder")
    packs_mirror: str = _setting("", "folder of downloaded runtimes, for machines without network; empty = registries")
    uid_range: str = _setting(UID_RANGE_DEFAULT, "host uids given to sandboxes, one each")
    sandbox_driver: str = _setting(
        "ns", "how sandboxes are made: ns, oci (runc or runsc), or docker", choices=("ns", "oci", "docker")
    )
    oci_runtime: str = _setting("runc", "what the driver oci uses: runc, runsc (gVisor), or the full path of one")
    docker_socket: str = _setting("/var/run/docker.sock", "socket of the Docker daemon, for the driver docker")
    docker_images: str = _setting("", "comma list of RUNTIME=IMAGE[#INTERPRETER or #http], for the driver docker")
    weaken: str = _setting("", "comma list of isolation facilities to go on without")

    @property
    def sqlite_path(self) -> Path:
        """The database file where no `database_url` is set."""
        return self.data_dir / "hearth.db"

    @property
    def packs_folder(self) -> Path:
        """Where installed runtimes are, absolute."""
        return (Path(self.packs_dir).expanduser() if self.packs_dir else self.data_dir / "packs").absolute()

    @property
    def oci_program(self) -> str:
        """The path of the program that `oci_runtime` names."""
        return OCI_PROGRAMS.get(self.oci_runtime, self.oci_runtime)

    @property
    def effective_database_url(self) -> str:
        """The database this server uses."""
        return self.database_url or f"sqlite:///{self.sqlite_path}"

    @property
    def weakened(self) -> frozenset[str]:
        """The facilities named by `weaken`."""
        return frozenset(_words(self.weaken))

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of `metrics_listen`, None where it is empty."""
        host, _, port = self.metrics_listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.metrics_listen else None

    @property
    def origins(self) -> frozenset[str]:
        """The host names of `allowed_origins`."""
        return frozenset(_words(self.allowed_origins.lower()))

    @property
    def proxies(self) -> frozenset[str]:
        """The addresses of `trusted_proxies`, in the form peers are named."""
        return frozenset(str(ipaddress.ip_address(address)) for address in _words(self.trusted_proxies))

    @property
    def uids(self) -> tuple[int, int]:
        """First and last uid of `uid_range`."""
        first, _, last = self.uid_range.partition("-")
        return int(first), int(last)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with the origin of each (`flag --port`, `HEARTH_PORT`, `hearth.toml`, `default`)."""

    settings: Settings
    origins: Mapping[str, str]


def fields() -> tuple["dataclasses.Field[Any]", ...]:
    """The table of settings, in order."""
    return dataclasses.fields(Settings)


def load(flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None) -> Loaded:
    """Merge all origins. `flags` holds only what was given. Raises SettingsInvalid with every problem at once."""
    problems: list[str] = []
    file_values, file_name = _read_file(config or _config_of(environment), problems)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for field in fields():
        raw, origin = _pick(field.name, flags, environment, file_values, file_name)
        origins[field.name] = origin
        if origin == "default":
            continue
        try:
            values[field.name] = _convert(field, raw)
        except ValueError as error:
            problems.append(f"{field.name} ({origin}): {error}")
    known = {field.name for field in fields()}
    problems += [f"{name} ({file_name}): there is no such setting" for name in sorted(set(file_values) - known)]
    if problems:
        raise SettingsInvalid(problems)
    settings = Settings(**values)
    settings = dataclasses.replace(settings, data_dir=settings.data_dir.absolute())
    _check(settings, problems)
    if problems:
        raise SettingsInvalid(problems)
    return Loaded(settings, origins)


def _config_of(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_ENV)
    if named:
        return Path(named)
    return next((path for path in CONFIG_DEFAULTS if path.is_file()), None)


def _read_file(path: Path | None, problems: list[str]) -> tuple[dict[str, Any], str]:
    if path is None:
        return {}, ""
    try:
        return tomllib.loads(path.read_text("utf-8")), str(path)
    except OSError as error:
        problems.append(f"config file {path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"config file {path}: not TOML: {error}")
    return {}, str(path)


def _pick(
    name: str, flags: Mapping[str, Any], environment: Mapping[str, str], file_values: Mapping[str, Any], file_name: str
) -> tuple[Any, str]:
    if flags.get(name) is not None:
        return flags[name], f"--{name.replace('_', '-')}"
    variable = ENV_PREFIX + name.upper()
    if environment.get(variable, "") != "":
        return environment[variable], variable
    if name in file_values:
        return file_values[name], file_name
    return None, "default"


def _convert(field: "dataclasses.Field[Any]", raw: Any) -> Any:
    kind = field.type
    if kind is Path:
        return Path(str(raw)).expanduser()
    if kind is int or kind is float:
        return _number(field, raw)
    text = str(raw)
    choices = field.metadata["choices"]
    if choices and text not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
    return text


def _number(field: "dataclasses.Field[Any]", raw: Any) -> Any:
    whole = field.type is int
    try:
        value = int(str(raw)) if whole else float(str(raw))
    except ValueError:
        raise ValueError(f"must be a {'whole ' if whole else ''}number, not {raw!r}") from None
    least, most = field.metadata["least"], field.metadata["most"]
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"at least {least:g}" if most is None else f"from {least:g} to {most:g}"
        raise ValueError(f"must be {bounds}, not {raw!r}")
    return value


def _check(settings: Settings, problems: list[str]) -> None:
    """What one value alone does not show."""
    url = settings.database_url
    if url and not url.startswith(("postgresql://", "sqlite:///")):
        problems.append(f"database_url: must be postgresql://... or sqlite:///path, not {url!r}")
    host, _, port = settings.metrics_listen.rpartition(":")
    if settings.metrics_listen and not (host and port.isascii() and port.isdecimal() and int(port) <= 65_535):
        problems.append(f"metrics_listen: must be host:port, such as 127.0.0.1:9464, not {settings.metrics_listen!r}")
    _check_templates_url(settings.templates_url, problems)
    _check_github_app(settings, problems)
    for folder in filter(None, map(str.strip, settings.git_local_paths.split(","))):
        path = Path(folder)
        if not path.is_absolute() or not path.is_dir() or path.resolve() == Path("/"):
            problems.append(f"git_local_paths: {folder} is not a folder of repositories; name existing ones, in full")
    if settings.files_url:
        problems.append("files_url: only the data folder is supported by this version; leave it empty")
    if settings.nats_url:
        problems.append("nats_url: this version runs on one machine only; leave it empty")
    problems.extend(
        f"allowed_origins: host names only, without scheme, port and path, not {origin!r}"
        for origin in sorted(settings.origins)
        if "/" in origin or ":" in origin
    )
    try:
        _ = settings.proxies
    except ValueError as error:
        problems.append(f"trusted_proxies: {error}")
    unknown = sorted(settings.weakened - set(WEAKENABLE))
    if unknown:
        problems.append(f"weaken: {', '.join(unknown)} cannot be gone without; only {', '.join(WEAKENABLE)} can")
    try:
        rows = parse_images(settings.docker_images)
        if rows and settings.sandbox_driver != "docker":
            problems.append("docker_images: only the driver docker runs images; set sandbox_driver to docker as well")
    except ValueError as error:
        problems.append(f"docker_images: {error}")
    program = Path(settings.oci_program)
    if not program.is_absolute() or program.name not in OCI_PROGRAMS:
        problems.append(
            f"oci_runtime: must be runc, runsc or the full path of one of them, not {settings.oci_runtime!r}"
        )
    elif settings.sandbox_driver != "oci" and settings.oci_program != OCI_PROGRAMS["runc"]:
        problems.append("oci_runtime: only the driver oci uses it; set sandbox_driver to oci as well")
    try:
        first, last = settings.uids
    except ValueError:
        problems.append(f"uid_range: must be FIRST-LAST, not {settings.uid_range!r}")
        return
    if not 1_000 <= first <= last - 63 <= 2**31:
        problems.append("uid_range: must hold at least 64 uids, the first at least 1000")


def _check_github_app(settings: Settings, problems: list[str]) -> None:
    """A GitHub App is set up whole or not at all."""
    names = [name for name in (field.name for field in fields()) if name.startswith("github_") and name != "github_url"]
    missing = [name for name in names if not getattr(settings, name)]
    if missing and len(missing) < len(names):
        problems.append(
            f"{', '.join(missing)}: must be set as well, or none of github_*: a GitHub App needs all of them"
        )
    try:
        parts = urllib.parse.urlsplit(settings.github_url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        port_is_number = False
    if not port_is_number or parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        problems.append("github_url: must be https://host or http://host")
    elif parts.query or parts.fragment:
        problems.append("github_url: must be a plain address, without query and fragment")


def _check_templates_url(url: str, problems: list[str]) -> None:
    """`url` may hold a password, so it is not repeated."""
    try:
        parts = urllib.parse.urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        problems.append("templates_url: not an address")
        return
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        folder = Path(urllib.parse.unquote(parts.path))
        if not folder.is_dir() or folder.resolve() == Path("/"):
            problems.append(f"templates_url: {folder} is not a folder of repositories; create it or name another one")
    elif parts.scheme not in ("https", "http") or not parts.hostname or not port_is_number:
        problems.append("templates_url: must be https://host, http://host or file:///folder")
    elif parts.query or parts.fragment or any(char.isspace() or not char.isprintable() for char in url):
        problems.append("templates_url: must be a plain address, without query, fragment or spaces")

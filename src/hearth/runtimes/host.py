"""The provider `host`: interpreters that are already installed on this machine.

Looks below /usr first (except /usr/local), because that part of the host is what a sandbox sees anyway, then on
PATH. Nothing is downloaded or installed here; other providers will bring runtimes the machine does not have.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hearth.data import load
from hearth.runtimes.catalogue import InstalledPacks
from hearth.runtimes.families import FAMILIES, SYSTEM_PYTHON, shim_command
from hearth.runtimes.packs import Level, Pack
from hearth.runtimes.probes import Answer, Probes, stamp

PROVIDER = "host"

PROBE_TIMEOUT_S = 10.0
_SYSTEM = Path("/usr")
_NOT_SHOWN = Path("/usr/local")
#: Where Debian has one folder for each development kit of Java.
JAVA_KITS = Path("/usr/lib/jvm")
#: What C++ handlers are compiled with besides a compiler (Debian: libjsoncpp-dev).
JSON_OF_CPP = Path("/usr/include/jsoncpp/json/json.h")
#: The part of the host that sandboxes see as it is.
SYSTEM_PROGRAMS = Path("/usr/bin")

_PYTHON_PROBE = (
    "import json,sys,sysconfig;"
    "print(json.dumps({'version':'%d.%d.%d'%sys.version_info[:3],'prefix':sys.base_prefix,"
    "'executable':getattr(sys,'_base_executable',sys.executable),'final':sys.version_info[3]=='final',"
    "'ldlibrary':sysconfig.get_config_var('INSTSONAME') or ''}))"
)


@dataclass(frozen=True, slots=True)
class _Found:
    """An interpreter of the host: exact version, its real file, and the folder it was installed into."""

    version: str
    executable: Path
    prefix: Path
    library: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether sandboxes see it without a mount of its own."""
        return self.executable.is_relative_to(_SYSTEM) and not self.executable.is_relative_to(_NOT_SHOWN)


class _NoAnswer(Exception):
    """A candidate could not be asked."""


#: What a probe said, by (path, mtime, size): one file is asked once per process.
_PROBED: dict[tuple[str, int, int], _Found | None] = {}


def discover_host_packs(
    runtimes: Sequence[Mapping[str, Any]] | None = None,
    search_path: str | None = None,
    probes: Probes | None = None,
) -> InstalledPacks:
    """Find the interpreters of this machine and the runtimes they serve exactly.

    `runtimes` are rows of the catalogue's table (default: all), `search_path` replaces PATH, `probes` are answers that
    are known already (default: none). Starts every other candidate once, so call it at start-up and keep the answer. A
    candidate that does not answer is passed over.
    """
    probes = probes or Probes(None)
    rows = load("runtimes.json")["runtimes"] if runtimes is None else runtimes
    path = os.environ.get("PATH", "") if search_path is None else search_path
    known = [(str(row["key"]), str(row["version"]), str(row["id"])) for row in rows if row["key"] in FAMILIES]
    packs: dict[str, Pack] = {}
    for family, found in _interpreters(path, probes):
        for key, version, id in known:
            if key == family and id not in packs and FAMILIES[key].is_served_by(version, found.version):
                packs[id] = _pack(id, family, found)
    probes.save()
    packs.update(_static_packs(rows))
    return InstalledPacks(packs.values())


def _static_packs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Pack]:
    """The runtimes of static files: they need no language, only the Python that every build needs too."""
    if not (SYSTEM_PROGRAMS / "python3").exists():
        return {}
    ids = [(str(row["id"]), str(row["version"])) for row in rows if row["key"] == "static"]
    shim = shim_command("static", SYSTEM_PYTHON)
    return {
        id: Pack(id, "static", version, Level.STAND_IN, PROVIDER, SYSTEM_PYTHON, shim, (str(SYSTEM_PROGRAMS),))
        for id, version in ids
    }


def _interpreters(search_path: str, probes: Probes) -> list[tuple[str, _Found]]:
    """Every interpreter found, best first."""
    asked = [
        (family, path, ask)
        for family, (names, ask) in _ASK.items()
        for path in _candidates(re.compile(names), _search_path(family, search_path))
    ]
    # Side by side, because a version manager's script takes a tenth of a second to say that it has none.
    with ThreadPoolExecutor(max_workers=4) as threads:
        answers = threads.map(lambda candidate: _probe(candidate[1], candidate[2], probes), asked)
        return [
            (family, found)
            for (family, _, _), found in zip(asked, answers, strict=True)
            if found is not None and (family != "cpp" or JSON_OF_CPP.exists())
        ]


def _search_path(family: str, search_path: str) -> str:
    """Where programs of a language are looked for behind /usr/bin."""
    if family != "java":
        return search_path
    return os.pathsep.join([search_path, *(str(path) for path in sorted(JAVA_KITS.glob("*/bin")))])


def _candidates(names: re.Pattern[str], search_path: str) -> list[Path]:
    """Executables so named in /usr/bin, then along `search_path`; one file under several such names counts once."""
    found: dict[Path, Path] = {}
    for folder in [
        SYSTEM_PROGRAMS,
        *(Path(part) for part in search_path.split(os.pathsep) if Path(part).is_absolute()),
    ]:
        try:
            entries = sorted(entry.name for entry in os.scandir(folder) if names.fullmatch(entry.name))
        except OSError:
            continue
        for path in (folder / entry for entry in entries):
            if os.access(path, os.X_OK):
                real = path.resolve()
                # One launcher may stand behind every name and choose by it: then each name is its own.
                found.setdefault(real if names.fullmatch(real.name) else path, path)
    return list(found.values())


def _probe(path: Path, ask: Callable[[Path], _Found | None], probes: Probes) -> _Found | None:
    try:
        status = path.stat()
    except OSError:
        return None
    key = (str(path), status.st_mtime_ns, status.st_size)
    if key not in _PROBED:
        kept = stamp(path)
        is_known, answer = probes.get(kept)
        if is_known and (answer is None or Path(answer["executable"]).exists()):
            _PROBED[key] = _found_again(answer)
        else:
            _PROBED[key] = _asked(path, ask, probes, kept)
    return _PROBED[key]


def _asked(path: Path, ask: Callable[[Path], _Found | None], probes: Probes, kept: str) -> _Found | None:
    try:
        found = ask(path)
    except _NoAnswer:
        return None  # a busy machine may be why: the next process asks again
    probes.put(kept, _to_keep(found))
    return found


def _to_keep(found: _Found | None) -> Answer:
    if found is None:
        return None
    return {
        "version": found.version,
        "executable": str(found.executable),
        "prefix": str(found.prefix),
        "library": found.library,
    }


def _found_again(answer: Answer) -> _Found | None:
    if answer is None:
        return None
    return _Found(answer["version"], Path(answer["executable"]), Path(answer["prefix"]), answer["library"])


def _output(command: Sequence[str]) -> str:
    """What a candidate prints, `""` if it fails. Raises _NoAnswer if it hangs or cannot be started."""
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": os.environ.get("HOME", "/")}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _NoAnswer(str(problem)) from problem
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _ask_node(path: Path) -> _Found | None:
    # Version managers put a script on PATH: only the process itself knows the real file.
    version, _, executable = (
        _output([str(path), "-p", "process.version + ' ' + process.execPath"]).strip().partition(" ")
    )
    if not re.fullmatch(r"v\d+\.\d+\.\d+", version) or not executable:
        return None
    real = Path(executable).resolve()
    return _Found(version.removeprefix("v"), real, real.parent.parent)


def _ask_python(path: Path) -> _Found | None:
    try:
        said = json.loads(_output([str(path), "-I", "-S", "-c", _PYTHON_PROBE]))
    except ValueError:
        return None
    if not said["final"]:
        return None
    real = Path(said["executable"]).resolve()
    library = said["ldlibrary"] if str(said["ldlibrary"]).startswith("libpython") else ""
    return _Found(said["version"], real, Path(said["prefix"]), library)


def _ask_plainly(*arguments: str) -> Callable[[Path], _Found | None]:
    """A probe whose answer is the exact version, a space and the interpreter's own file."""

    def ask(path: Path) -> _Found | None:
        version, _, executable = _output([str(path), *arguments]).strip().partition(" ")
        if not re.fullmatch(r"\d+\.\d+\.\d+", version) or not executable.startswith("/"):
            return None
        real = Path(executable).resolve()
        return _Found(version, real, real.parent.parent)

    return ask


def _ask_system(*arguments: str) -> Callable[[Path], _Found | None]:
    """The same for a language whose parts lie all over /usr: only an installation that sandboxes see as it is."""
    plain = _ask_plainly(*arguments)

    def ask(path: Path) -> _Found | None:
        found = plain(path)
        return found if found is not None and found.is_shown else None

    return ask


def _ask_go(path: Path) -> _Found | None:
    version, _, root = _output([str(path), "env", "GOVERSION", "GOROOT"]).strip().partition("\n")
    if not re.fullmatch(r"go\d+\.\d+(\.\d+)?", version) or not Path(root).is_absolute():
        return None
    return _Found(version.removeprefix("go"), Path(root).resolve() / "bin/go", Path(root).resolve())


def _ask_java(path: Path) -> _Found | None:
    """Only a development kit that sandboxes see as it is. What it says of itself is in a file: nothing is started."""
    prefix = path.resolve().parent.parent
    try:
        said = (prefix / "release").read_text("utf-8", "replace")
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="(?:1\.)?(\d[\d.]*)', said, re.MULTILINE)
    if version is None or not (prefix / "bin/javac").exists():
        return None
    found = _Found(version[1], prefix / "bin/java", prefix)
    return found if found.is_shown else None


def _ask_cpp(path: Path) -> _Found | None:
    version, real = _output([str(path), "-dumpfullversion"]).strip(), path.resolve()
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return None
    found = _Found(version, real, real.parent.parent)
    return found if found.is_shown else None


#: By family: what its program may be called (a pattern of whole names), and how it is asked what it is.
_ASK: Mapping[str, tuple[str, Callable[[Path], _Found | None]]] = {
    "node": (r"node(js)?", _ask_node),
    "python": (r"python3(\.\d+)?", _ask_python),
    "bun": ("bun", _ask_plainly("-p", "process.versions.bun + ' ' + process.execPath")),
    "deno": ("deno", _ask_plainly("eval", "--quiet", "console.log(Deno.version.deno + ' ' + Deno.execPath())")),
    "php": (r"php(\d\.\d)?", _ask_system("-n", "-r",
            "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION, '.', PHP_RELEASE_VERSION, ' ', PHP_BINARY;")),
    "ruby": (r"ruby(\d\.\d)?", _ask_system("--disable=gems", "-rrbconfig", "-e",
             "puts RUBY_VERSION + ' ' + RbConfig.ruby")),
    "go": ("go", _ask_go),
    "java": ("java", _ask_java),
    "cpp": (r"g\+\+(-\d+)?", _ask_cpp),
}  # fmt: skip


#: Languages that are one file, wherever it lies and whatever it is called there.
_SINGLE_FILES = frozenset({"bun", "deno"})


def _pack(id: str, family: str, found: _Found) -> Pack:
    """How a sandbox is given an interpreter: as it is below /usr, else by mounts of what belongs to it."""
    if found.is_shown:
        interpreter, path = str(found.executable), str(found.executable.parent)
        mounts: tuple[tuple[str, str], ...] = ()
        environment: Mapping[str, str] = {}
    else:
        inside = f"/opt/runtimes/{id}"
        parts = _parts(family, found)
        interpreter, path = f"{inside}/{parts[0]}", f"{inside}/bin"
        if family in _SINGLE_FILES:
            mounts = ((str(found.executable), interpreter),)
        else:
            mounts = _mounts(found.prefix, inside, parts)
        # The path of its own library is baked into the interpreter, and is another one inside.
        environment = {"LD_LIBRARY_PATH": f"{inside}/lib"} if ".so" in found.library else {}
    return Pack(
        id=id,
        family=family,
        version=found.version,
        level=Level.EXACT,
        provider=PROVIDER,
        interpreter=interpreter,
        shim=shim_command(family, interpreter),
        path=(path,),
        mounts=mounts,
        environment=environment,
    )


def _parts(family: str, found: _Found) -> Sequence[str]:
    """What of its prefix an interpreter needs, itself first: not the whole, because other programs lie there too."""
    if family == "python":
        name = "python" + FAMILIES[family].series(found.version)
        library = (f"lib/{found.library}",) if found.library else ()
        return (f"bin/{name}", f"lib/{name}", f"include/{name}", *library)
    if family == "node":
        # Builds make their own links to npm.
        return ("bin/node", "lib/node_modules/npm", "include/node")
    if family == "go":
        return ("bin/go", "bin/gofmt", "go.env", "VERSION", "lib", "pkg", "src")
    return (f"bin/{family}",)


def _mounts(prefix: Path, inside: str, parts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read-only mounts of the parts that exist, with links resolved (a link would point nowhere inside)."""
    mounts = []
    for part in parts:
        source = prefix / part
        if source.exists():
            mounts.append((str(source.resolve()), f"{inside}/{part}"))
    return tuple(mounts)

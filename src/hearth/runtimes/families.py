"""What is special about each language family, for whoever makes packs, starts instances or builds.

A provider finds or installs an interpreter; how the family's shim is started with it is said here, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hearth.runtimes.locations import CODE_INSIDE, SHIMS_FOLDER, SHIMS_INSIDE

#: The binary that the build of a compiled language leaves in its output, relative to it.
BINARY = ".hearth/handler"
#: The family of packs that are images with a server of their own, which speaks HTTP.
OPEN_RUNTIMES = "openruntimes"
#: The shim of languages whose build leaves a program.
_LAUNCHER = "compiled/launch.py"
#: Every system has it (the build program needs it too).
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True, slots=True)
class Family:
    """One language. `flags` stand between interpreter and shim; `shim` is a path below the shims folder.

    `before_shim` are words that have to be right before the shim, `arguments` what the shim is given.
    `series_parts`: how many parts of a version have to be equal for an interpreter to be the runtime.
    `memory_flag`: the flag (with `{mb}`) that tells the interpreter its memory at its start; such a family has a kind
    of stem cell per memory size; `beside_heap_mb` is what it needs besides the heap of that size.
    `standards`: of a language whose runtimes are versions of its standard, the first major version of a compiler that
    knows each; such a compiler is several runtimes at once.
    `is_concurrent`: an instance runs several requests at once whatever the handler looks like.
    `is_compiled`: nothing runs without a build. `environment`: set for the shim's process.
    `certificates`: the folder, below the root of a system, with certificates in a form of the language's own, and
    `certificates_flag` (with `{folder}`) what makes it use a copy of that folder.
    """

    shim: str
    flags: tuple[str, ...] = ()
    before_shim: tuple[str, ...] = ()
    series_parts: int = 2
    memory_flag: str = ""
    beside_heap_mb: int = 48  # measured: V8 needs 40 to 45 with a small function in Node
    is_concurrent: bool = False
    is_compiled: bool = False
    standards: Mapping[str, int] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    certificates: str = ""
    certificates_flag: str = ""

    def series(self, version: str) -> str:
        """The part of a version that has to be equal: `22` of Node.js 22.9.0, `8.2` of PHP 8.2.24."""
        return ".".join(version.split(".")[: self.series_parts])

    def is_served_by(self, wanted: str, version: str) -> bool:
        """Whether a program of this exact `version` is the runtime of the version `wanted`."""
        if self.standards:
            return int(version.partition(".")[0]) >= self.standards.get(wanted, 1_000_000)
        return self.series(wanted) == self.series(version)


_JAVA = Family(
    "java/hearth.jar",
    # An instance is small and starts often: one collector thread, no file for other programs to watch it by.
    ("-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData", "-Dfile.encoding=UTF-8"),
    ("-jar",),
    series_parts=1,
    memory_flag="-Xmx{mb}m",
    beside_heap_mb=80,
    is_concurrent=True,
    is_compiled=True,
    arguments=("io.openruntimes.java.JavaLanguage",),
    certificates="etc/ssl/certs/java",
    certificates_flag="-Djavax.net.ssl.trustStore={folder}/cacerts",
)

FAMILIES: Mapping[str, Family] = {
    "node": Family("node/shim.cjs", series_parts=1, memory_flag="--max-old-space-size={mb}", is_concurrent=True),
    # Isolated from the environment and without the machine's own site-packages: a function sees the standard library
    # and what its build installed, not what happens to be installed here. Also 5 ms faster to start.
    "python": Family("python/start.py", ("-I", "-S")),
    # Nothing is installed while a function runs.
    "bun": Family("node/shim.cjs", ("--no-install",), is_concurrent=True),
    # The sandbox is the boundary: Deno's own permissions would ask a question that nobody answers.
    "deno": Family(
        "deno/shim.mjs",
        # Before 2.0 the calls into the C library, which the shim makes, need a flag that later versions ignore.
        ("run", "--allow-all", "--no-prompt", "--quiet", "--unstable-ffi"),
        memory_flag="--v8-flags=--max-old-space-size={mb}",
        is_concurrent=True,
        environment={
            # Where it cannot write, TypeScript costs 150 ms more; the shim brings in what the build has cached.
            "DENO_DIR": "/tmp/deno",  # noqa: S108 - inside
            "DENO_NO_UPDATE_CHECK": "1",
            "DENO_NO_PACKAGE_JSON": "1",
        },
    ),
    # Memory and time are the sandbox's business. Warnings are output of the function, as text and on stderr.
    "php": Family(
        "php/shim.php",
        (
            *("-d", "memory_limit=-1", "-d", "max_execution_time=0", "-d", "display_errors=stderr"),
            *("-d", "html_errors=0", "-d", "log_errors=0", "-d", "implicit_flush=1", "-d", "zend.assertions=-1"),
        ),
    ),
    "ruby": Family("ruby/shim.rb"),
    # No interpreter of the user's: our file server, which is the shim of Python with a handler of ours.
    "static": Family("static/start.py", ("-I", "-S"), series_parts=1, is_concurrent=True),
    "java": _JAVA,
    # The compiler and the types of its handlers are its own, the server is that of Java.
    "kotlin": replace(_JAVA, series_parts=2, arguments=("io.openruntimes.kotlin.KotlinLanguage",)),
    "go": Family(_LAUNCHER, is_concurrent=True, is_compiled=True),
    # Whatever the language: the image has a server for it (`images`), ours speaks to that.
    OPEN_RUNTIMES: Family("openruntimes/start.py", is_concurrent=True),
    "rust": Family(_LAUNCHER, is_concurrent=True, is_compiled=True),
    # The runtimes are C++17, C++20: any g++ that knows the standard is one.
    "cpp": Family(_LAUNCHER, series_parts=1, is_compiled=True, standards={"17": 8, "20": 11}),
    "dart": Family(_LAUNCHER, is_concurrent=True, is_compiled=True),
}


_UNKNOWN = Family("")


def family_of(key: str) -> Family:
    """What is special about a language; nothing if it is not known here."""
    return FAMILIES.get(key, _UNKNOWN)


def has_shim(key: str) -> bool:
    """Whether functions of a language can be run: its shim is part of this version of Hearth."""
    return key in FAMILIES and (SHIMS_FOLDER / FAMILIES[key].shim).is_file()


def shim_command(family: str, interpreter: str, certificates: str = "") -> tuple[str, ...]:
    """The command that starts the shim of a family; both paths are inside a sandbox, `certificates` may be `""`."""
    known = FAMILIES[family]
    shim = f"{SHIMS_INSIDE}/{known.shim}"
    if known.shim == _LAUNCHER:
        return (SYSTEM_PYTHON, "-I", "-S", shim, f"{CODE_INSIDE}/{BINARY}")
    more = (known.certificates_flag.format(folder=certificates),) if certificates else ()
    return (interpreter, *known.flags, *more, *known.before_shim, shim, *known.arguments)

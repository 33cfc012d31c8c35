"""Compiles a Rust function together with our server into one program (contract: runtime-contract 7, hook `compile`).

As in the reference the function is a library crate named `handler`, which the server's own crate uses. Nothing is
written into the source: Cargo sees the function's files by links, beside a copy of its manifest in which the crate of
the handlers' types is ours and the entrypoint is the library's file.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from typing import Any

from .layout import BuildFailed, Layout, own_file

#: The program, relative to the output (see `hearth.runtimes.families.BINARY`).
BINARY = ".hearth/handler"
#: Where our sources are: files of this package's sibling folder.
SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "rust")
#: The crates that the system brings, each with its sources (Debian: librust-*-dev).
SYSTEM_CRATES = "/usr/share/cargo/registry"
_MANIFEST, _LOCK = "Cargo.toml", "Cargo.lock"
#: The folder of the function; part of the paths by which stacks know its files (see stack.rs).
_FUNCTION = "hearth-function"
_TYPES = "openruntimes"
#: Our server needs them, and what is compiled of them is the function's too.
_SERVER_CRATES = {"serde_json": "1.0"}
#: The line tables of the standard library are most of a program: 14 MB become 4.
_SMALLER = 'target."cfg(all())".rustflags=["-Clink-arg=-Wl,--compress-debug-sections=zlib"]'
_DEPENDENCIES = ("dependencies", "dev-dependencies", "build-dependencies")


def rust_environment(layout: Layout) -> dict[str, str]:
    """Variables of every command of a Rust build; the function's own count more.

    What is compiled of dependencies is kept in `.cache`, which later builds may be given.
    """
    return {
        "CARGO_HOME": os.path.join(layout.home, ".cargo"),
        "CARGO_TARGET_DIR": os.path.join(layout.home, ".cache", "cargo-target"),
        "CARGO_TERM_COLOR": "never",
        "CARGO_TERM_PROGRESS_WHEN": "never",
    }


def compile_command(layout: Layout, output: str, entrypoint: str, interpreter: str, _runtime: str = "") -> str:
    """Prepare everything and return the command that compiles into `output`. Raises BuildFailed for a bad manifest.

    Where everything the function requires is among the system's crates, nothing is downloaded; a `.cargo/config.toml`
    of the function says otherwise.
    """
    work = os.path.join(layout.home, ".hearth-rust")
    function = os.path.join(work, _FUNCTION)
    shutil.rmtree(function, ignore_errors=True)
    os.makedirs(function)
    for name in os.listdir(layout.build):
        link = os.path.join(function, name)
        if name not in (_MANIFEST, _LOCK) and not os.path.lexists(link):
            os.symlink(os.path.join(layout.build, name), link)
    given = _read(os.path.join(layout.build, _MANIFEST))
    types = os.path.join(work, "types")
    for folder in ("types", "instance"):
        shutil.copytree(os.path.join(SOURCES, folder), os.path.join(work, folder), dirs_exist_ok=True)
    own_file(function, _MANIFEST, toml(handler_manifest(given, entrypoint, types)))
    own_file(work, _MANIFEST, toml(server_manifest(given, types)))
    if os.path.isfile(os.path.join(layout.build, _LOCK)):
        shutil.copyfile(os.path.join(layout.build, _LOCK), os.path.join(work, _LOCK))
    manifest = ["--manifest-path", os.path.join(work, _MANIFEST)]
    build = [interpreter, "build", "--release", *manifest, "--config", _SMALLER]
    local = [
        *("--offline", "--config", "source.crates-io.replace-with='system'"),
        *("--config", f"source.system.directory='{SYSTEM_CRATES}'"),
    ]
    program = os.path.join(output, BINARY)
    made = '"$CARGO_TARGET_DIR/release/hearth-instance"'
    finish = f"mkdir -p {shlex.quote(os.path.dirname(program))} && cp {made} {shlex.quote(program)}"
    has_config = any(os.path.exists(os.path.join(layout.build, ".cargo", name)) for name in ("config", "config.toml"))
    if has_config or not os.path.isdir(SYSTEM_CRATES):
        return f"{shlex.join(build)} && {finish}"
    # Asked first whether the system's crates are enough: what then fails is the function's code.
    lock = os.path.join(work, _LOCK)
    ask = shlex.join([interpreter, "generate-lockfile", *manifest, *local])
    keep, back = shlex.join(["cp", lock, f"{lock}.given"]), shlex.join(["mv", f"{lock}.given", lock])
    return "\n".join(
        (
            "set -e",
            f"if [ -e {shlex.quote(lock)} ]; then {keep}; fi",
            f"if {ask} >/dev/null 2>&1; then",
            f"  {shlex.join([*build, *local])}",
            "else",
            f"  if [ -e {shlex.quote(lock)}.given ]; then {back}; fi",
            f"  {shlex.join(build)}",
            "fi",
            finish,
        )
    )


def handler_manifest(given: Mapping[str, Any], entrypoint: str, types: str) -> dict[str, Any]:
    """The manifest of the function as the build sees it. A decision without I/O.

    `types` is the folder of our crate of types, which goes wherever the function names the reference's.
    """
    made = dict(given)
    package = {"name": "handler", "version": "0.1.0", "edition": "2021", **_table(given, "package")}
    made["package"] = {name: value for name, value in package.items() if name != "workspace"}
    library = {name: value for name, value in _table(given, "lib").items() if name != "crate-type"}
    made["lib"] = {**library, "name": "handler", "path": os.path.normpath(entrypoint)}
    made["bin"] = []
    made["package"]["autobins"] = False
    for section in _DEPENDENCIES:
        if section in given:
            made[section] = {
                name: {"path": types, "package": _TYPES} if _is_types(name, wanted) else wanted
                for name, wanted in _table(given, section).items()
            }
    made["dependencies"] = {_TYPES: {"path": types}, **made.get("dependencies", {})}
    for section in ("workspace", "profile", "patch", "replace"):  # they count in the root's manifest only
        made.pop(section, None)
    return made


def server_manifest(given: Mapping[str, Any], types: str) -> dict[str, Any]:
    """The manifest of our server, the root of the build: the function's profile and patches count. Without I/O."""
    release = {"debug": "line-tables-only", **_table(_table(given, "profile"), "release"), "panic": "unwind"}
    return {
        "package": {"name": "hearth-instance", "version": "0.0.0", "edition": "2021", "publish": False},
        "workspace": {"members": [], **{k: v for k, v in _table(given, "workspace").items() if k == "dependencies"}},
        "bin": [{"name": "hearth-instance", "path": "instance/src/main.rs"}],
        "dependencies": {
            **_SERVER_CRATES,
            "handler": {"path": _FUNCTION, "package": str(_table(given, "package").get("name", "handler"))},
            _TYPES: {"path": types},
        },
        "profile": {"release": release},
        **{section: given[section] for section in ("patch", "replace") if section in given},
    }


def _is_types(name: str, wanted: Any) -> bool:
    package = str(wanted.get("package", name)) if isinstance(wanted, dict) else name
    return name == _TYPES or package.endswith("openruntimes-types-for-rust")


def _table(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _read(path: str) -> dict[str, Any]:
    try:
        import tomllib
    except ImportError:
        raise BuildFailed("runtime", "Builds of Rust need Python 3.11 or newer in the system of the runtime.") from None
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BuildFailed("rust", f"{_MANIFEST} cannot be read: {error}.") from error


def toml(document: Mapping[str, Any]) -> str:
    """A document in TOML, one line for each of its tables."""
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in document.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return str(value)  # numbers, and times, as they are written


def _key(name: str) -> str:
    return json.dumps(name)

"""What a function without commands gets: the install that its lock file asks for. A convenience, told in the log."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from typing import Any

from .layout import Layout

#: A variable of a function or project: `off`, and nothing is run where no commands are set.
DEFAULTS_SWITCH = "HEARTH_BUILD_DEFAULTS"

#: Per family: a file of the source, the program that is needed, and what is run.
_BY_LOCK = {
    "bun": (
        ("bun.lock", "bun", "bun install --frozen-lockfile"),
        ("bun.lockb", "bun", "bun install --frozen-lockfile"),
    ),
    "deno": (("deno.lock", "deno", "deno cache ENTRYPOINT"),),
    "php": (("composer.lock", "composer", "composer install --no-dev"),),
    "ruby": (("Gemfile.lock", "bundle", "bundle install"),),
}
_INSTALLED = {"bun": "node_modules", "deno": "deno-cache", "php": "vendor", "ruby": "vendor"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")


def default_commands(layout: Layout, family: str, entrypoint: str, path: str) -> tuple[str, str]:
    """The commands for a function that has none but names dependencies, and why; two empty texts if it names none.

    `path` is where programs of the commands are found: what is not there is not asked for.
    """
    build = layout.build
    if family == "node" and os.path.isfile(os.path.join(build, "package.json")):
        return _node(build, path)
    if family == "python":
        return _python(layout)
    if family in _INSTALLED and os.path.lexists(os.path.join(build, _INSTALLED[family])):
        return "", ""
    for lock, program, commands in _BY_LOCK.get(family, ()):
        if os.path.isfile(os.path.join(build, lock)) and shutil.which(program, path=path):
            return commands.replace("ENTRYPOINT", shlex.quote(entrypoint)), f"there is a {lock}"
    return "", ""


def _node(build: str, path: str) -> tuple[str, str]:
    if os.path.lexists(os.path.join(build, "node_modules")):
        return "", ""
    try:
        with open(os.path.join(build, "package.json"), encoding="utf-8") as file:
            package = json.load(file)
    except (OSError, ValueError):
        return "", ""
    if not isinstance(package, dict) or not package.get("dependencies"):
        return "", ""
    for lock in ("package-lock.json", "npm-shrinkwrap.json"):
        if os.path.isfile(os.path.join(build, lock)):
            return "npm ci", f"package.json lists dependencies, there is a {lock} and no node_modules folder"
    for lock, program in (("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn")):
        if os.path.isfile(os.path.join(build, lock)) and shutil.which(program, path=path):
            commands = f"{program} install --frozen-lockfile"
            return commands, f"package.json lists dependencies, there is a {lock} and no node_modules folder"
    return "npm install", "package.json lists dependencies and there is no node_modules folder"


def _python(layout: Layout) -> tuple[str, str]:
    if os.path.isfile(os.path.join(layout.build, "requirements.txt")):
        return "pip install -r requirements.txt", "there is a requirements.txt"
    for lock in ("uv.lock", "poetry.lock"):
        if os.path.isfile(os.path.join(layout.build, lock)):
            return _locked_python(layout, lock)
    return "", ""


def _locked_python(layout: Layout, lock: str) -> tuple[str, str]:
    """pip with the project's own dependencies, and the versions of the lock file as constraints."""
    versions = {
        str(package["name"]): str(package["version"])
        for package in _toml(layout, lock).get("package", ())
        if isinstance(package, dict) and "name" in package and "version" in package
    }
    locked = {
        _plain(name): f"{name}=={version}"
        for name, version in versions.items()
        if _NAME.fullmatch(name) and _VERSION.fullmatch(version)
    }
    wanted = _dependencies(_toml(layout, "pyproject.toml"), locked)
    if not wanted:
        return "", ""
    files = {"requirements-of-the-lock.txt": wanted, "constraints-of-the-lock.txt": list(locked.values())}
    for name, lines in files.items():
        with open(os.path.join(layout.home, name), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    requirements, constraints = (f'"$HOME/{name}"' for name in files)
    return (
        f"pip install -r {requirements} -c {constraints}",
        f"there is a {lock}; its versions are used for the dependencies of pyproject.toml",
    )


def _dependencies(project: dict[str, Any], locked: dict[str, str]) -> list[str]:
    """What a pyproject.toml asks for, as lines for pip; those of Poetry's own kind at their locked versions."""
    standard = _table(project, "project").get("dependencies")
    if isinstance(standard, list) and standard:
        return [line for line in standard if isinstance(line, str) and "\n" not in line and not line.startswith("-")]
    wanted = []
    for name, rule in _table(_table(_table(project, "tool"), "poetry"), "dependencies").items():
        is_optional = isinstance(rule, dict) and rule.get("optional")
        if name != "python" and not is_optional and (line := locked.get(_plain(name))):
            wanted.append(line)
    return wanted


def _table(parent: dict[str, Any], name: str) -> dict[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _plain(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _toml(layout: Layout, name: str) -> dict[str, Any]:
    """A file of the source; empty if it is none, or if this system's Python cannot read it (before 3.11)."""
    try:
        import tomllib
    except ImportError:
        return {}
    try:
        with open(os.path.join(layout.build, name), "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError):
        return {}

"""Reads the configuration files and variables of pip and npm the way those programs merge them.

Sources: pip's documentation "Configuration" (order: global, user, site, PIP_CONFIG_FILE, then PIP_* variables) and
npm's "config" and "npmrc" (order: built in, global, user, then npm_config_* variables). What the values mean for
builds is decided in `hearth.runtimes.registries`.
"""

import configparser
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: pip reads options of `pip install` from these sections, the later one winning.
_PIP_SECTIONS = ("global", "install")
SYSTEM_PIP_CONF = Path("/etc/pip.conf")
SITE_FOLDER = Path(sys.prefix)
_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_SIZE_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class PipConfig:
    """Settings of pip that concern registries, as text; `""` where there is none."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    certificate_files: tuple[str, ...] = ()
    no_index: bool = False
    timeout: str = ""


@dataclass(frozen=True, slots=True)
class NpmConfig:
    """Settings of npm without credentials: name -> text, and certificates to trust (files, and given in place)."""

    values: Mapping[str, str]
    certificate_files: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


def read_pip_config(environment: Mapping[str, str], home: Path, warnings: list[str]) -> PipConfig:
    """Merge pip's files and variables. An unreadable file is a warning and counts as absent."""
    values: dict[str, str] = {}
    for file in _pip_files(environment, home):
        text = _read(file, warnings)
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            warnings.append(f"{file} cannot be understood: left out of builds")
            continue
        for section in _PIP_SECTIONS:
            if parser.has_section(section):
                values.update({_pip_key(key): value for key, value in parser.items(section)})
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            values[_pip_key(name[4:])] = value
    return PipConfig(
        index_url=values.get("index-url", "").strip(),
        extra_index_urls=tuple(values.get("extra-index-url", "").split()),
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        certificate_files=_local_files([values.get("cert", "").strip()]),
        no_index=values.get("no-index", "").strip().lower() in _TRUE,
        timeout=_number(values.get("timeout") or values.get("default-timeout") or ""),
    )


def _pip_files(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """pip's files, least important first. PIP_CONFIG_FILE=/dev/null means none at all."""
    chosen = environment.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return
    for folder in reversed((environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)):
        if folder:
            yield Path(folder) / "pip" / "pip.conf"
    yield SYSTEM_PIP_CONF
    yield home / ".pip" / "pip.conf"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield SITE_FOLDER / "pip.conf"
    if chosen:
        yield Path(chosen)


def _pip_key(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _number(text: str) -> str:
    return text.strip() if re.fullmatch(r"\s*\d{1,6}(\.\d+)?\s*", text) else ""


def read_npm_config(environment: Mapping[str, str], home: Path, warnings: list[str]) -> NpmConfig:
    """Merge npm's files and variables, leaving credentials out (with a warning that says so)."""
    values: dict[str, str] = {}
    credentials = False
    for file in _npm_files(environment, home):
        for key, value in _npm_lines(_read(file, warnings), environment):
            if _is_credential(key):
                credentials = True
            else:
                values[key] = value
    for name, value in environment.items():
        key = _npm_variable(name)
        if key and value:
            if _is_credential(key):
                credentials = True
            else:
                values[key] = value
    if credentials:
        warnings.append("npm credentials (_authToken, _auth, _password, certificates of a client) stay out of builds")
    inline = values.pop("ca", "")
    return NpmConfig(values, _local_files([values.pop("cafile", "")]), (inline,) if inline else ())


def _npm_files(environment: Mapping[str, str], home: Path) -> Iterator[Path]:
    """npm's files, least important first: built in, global, user."""
    npm = shutil.which("npm", path=environment.get("PATH", ""))
    node = shutil.which("node", path=environment.get("PATH", ""))
    if npm:
        yield Path(npm).resolve().parent.parent / "npmrc"  # <npm's folder>/bin/npm-cli.js
    variables = {_npm_variable(name): value for name, value in environment.items()}
    if variables.get("globalconfig"):
        yield Path(variables["globalconfig"])
    elif node:
        prefix = variables.get("prefix") or environment.get("PREFIX") or str(Path(node).resolve().parent.parent)
        yield Path(prefix) / "etc" / "npmrc"
    yield Path(variables.get("userconfig") or home / ".npmrc")


def _npm_variable(name: str) -> str:
    """The setting that a variable such as `NPM_CONFIG_STRICT_SSL` or `npm_config_@scope:registry` sets, or `""`."""
    if not name.lower().startswith("npm_config_"):
        return ""
    key = name[len("npm_config_") :].lower()
    return key if key.startswith(("//", "@")) else re.sub(r"(?<!^)_", "-", key)


def _is_credential(key: str) -> bool:
    name = key.rpartition(":")[2] if key.startswith("//") else key
    return name in {"_authtoken", "_auth", "_password", "username", "email", "key", "cert", "keyfile", "certfile"}


def _npm_lines(text: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Key and value of each line of an npmrc, keys lower-case; `key[]=` lines of one key are joined by newlines."""
    lists: dict[str, list[str]] = {}
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in ";#[":
            continue
        key, _, value = line.partition("=")
        key, value = key.strip().strip("\"'").lower(), _npm_value(value.strip(), environment)
        if key.endswith("[]"):
            lists.setdefault(key[:-2], []).append(value)
        elif key:
            yield key, value
    for key, items in lists.items():
        yield key, "\n".join(items)


def _npm_value(value: str, environment: Mapping[str, str]) -> str:
    """A value with its quotes taken off and `${NAME}` filled in; no value at all means true."""
    if value[:1] == '"' and value[-1:] == '"' and len(value) > 1:
        try:
            value = str(json.loads(value))
        except ValueError:
            value = value[1:-1]
    elif value[:1] == "'" and value[-1:] == "'" and len(value) > 1:
        value = value[1:-1]
    if not value:
        return "true"
    return re.sub(r"\$\{([^}]+)\}", lambda match: environment.get(match[1].rstrip("?"), match[0]), value)


def _local_files(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(Path(path).expanduser()) for path in paths if path and path not in ("null", "true"))


def _read(file: Path, warnings: list[str]) -> str:
    """The text of a configuration file, `""` if there is none."""
    try:
        with file.open("rb") as stream:
            return stream.read(_SIZE_MAX_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        warnings.append(f"{file} cannot be read ({error.strerror}): left out of builds")
        return ""

"""What builds are told of this machine's package registries, from its own pip and npm configuration and Go's variables.

Read from the files and variables that pip and npm themselves read, in their order, without running either: a
machine may have neither. Only what makes sense inside a sandbox goes in: no credentials, no local paths, no proxies
(a proxy would be a way around the egress gate's decisions).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from hearth.runtimes.clientconfig import NpmConfig, PipConfig, read_npm_config, read_pip_config

PYPI = "https://pypi.org/simple"
NPM = "https://registry.npmjs.org/"

#: Hosts that an index hands out download addresses on, beside its own (PyPI: warehouse's file host).
_FILES_OF = {"pypi.org": ("files.pythonhosted.org",)}
_PORTS = {"https": 443, "http": 80}

#: npm settings taken over as they are when the machine sets them: how lock files meet another registry.
_NPM_LOCK_KEYS = ("replace-registry-host", "omit-lockfile-registry-resolved")
#: npm settings of every build: nobody is there to read notices, and an audit needs an address of its own.
_NPM_QUIET = {"audit": "false", "fund": "false", "update-notifier": "false"}

#: Of Go's variables those that are patterns of module names, or the name of a checksum database.
_GO_NAMES = ("GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GONOPROXY", "GOINSECURE")

_CA_NAME = "ca.crt"


@dataclass(frozen=True, slots=True)
class Registries:
    """The registries of this machine, as builds use them.

    `pip` and `npm` are settings in the order to write them (a key may repeat), `go` variables of its toolchain, `ca`
    the text of the certificates to trust (`""` = what the sandbox has), `hosts` the `host:port` names that the egress
    gate has to allow. `warnings` say what was left out and why, for the operator.
    """

    pip: tuple[tuple[str, str], ...] = ()
    npm: tuple[tuple[str, str], ...] = ()
    go: tuple[tuple[str, str], ...] = ()
    ca: str = ""
    hosts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def files(self, inside: str) -> dict[str, str]:
        """The files a build sandbox gets in the folder it sees as `inside`: name -> text."""
        pip = [f"{key} = {value}" for key, value in self.pip]
        npm = [f"{key}={value}" for key, value in self.npm]
        files = {}
        if self.ca:
            files[_CA_NAME] = self.ca
            pip.append(f"cert = {inside}/{_CA_NAME}")
            npm.append(f"cafile={inside}/{_CA_NAME}")
        files["pip.conf"] = "\n".join(["[global]", *pip]) + "\n"
        files["npmrc"] = "\n".join(npm) + "\n"
        return files

    def environment(self, inside: str) -> dict[str, str]:
        """The variables that point package managers to those files.

        npm's is the global file, so that a project's or user's .npmrc still counts more. Node.js trusts the bundle
        in addition to its own certificates; what replaces a program's trust as a whole is not set.
        """
        environment = {"PIP_CONFIG_FILE": f"{inside}/pip.conf", "NPM_CONFIG_GLOBALCONFIG": f"{inside}/npmrc"}
        environment.update(self.go)
        if self.ca:
            environment["NODE_EXTRA_CA_CERTS"] = f"{inside}/{_CA_NAME}"
        return environment


def client_registries(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Registries:
    """Read the pip and npm configuration of whoever runs this server. Never fails; what is unreadable is a warning.

    `environment` is by default the process's own; `home` is where user configuration is looked for, by default the
    HOME in it.
    """
    if environment is None:
        environment = os.environ
    folder = home or Path(environment.get("HOME") or "/nonexistent")
    warnings: list[str] = []
    pip = read_pip_config(environment, folder, warnings)
    npm = read_npm_config(environment, folder, warnings)
    pip_settings, pip_urls = _pip_settings(pip, warnings)
    npm_settings, npm_urls = _npm_settings(npm, warnings)
    go_settings, go_urls = _go_settings(environment, warnings)
    hosts = _hosts([*pip_urls, *npm_urls, *go_urls])
    ca = _certificates([*pip.certificate_files, *npm.certificate_files], npm.certificates, warnings)
    return Registries(pip_settings, npm_settings, go_settings, ca, hosts, tuple(dict.fromkeys(warnings)))


def _pip_settings(config: PipConfig, warnings: list[str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Settings for pip.conf and the index addresses in use."""
    settings = [("no-input", "true"), ("disable-pip-version-check", "true"), ("no-cache-dir", "true")]
    index = _address(config.index_url, "pip index-url", warnings) if config.index_url else PYPI
    extra = [
        address for url in config.extra_index_urls if (address := _address(url, "pip extra-index-url", warnings)) != ""
    ]
    if index == "":
        warnings.append(f"pip index-url {_shown(config.index_url)} is not reachable from builds: {PYPI} is used there")
        index = PYPI
    if config.no_index:
        warnings.append("pip no-index is left out: builds have no local packages to find")
    settings.append(("index-url", index))
    if extra:
        settings.append(("extra-index-url", " ".join(extra)))
    if config.trusted_hosts:
        settings.append(("trusted-host", " ".join(config.trusted_hosts)))
    if config.timeout:
        settings.append(("timeout", config.timeout))
    return tuple(settings), [index, *extra]


def _npm_settings(config: NpmConfig, warnings: list[str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """Settings for npmrc and the registry addresses in use."""
    values = config.values
    registry = _address(values.get("registry", ""), "npm registry", warnings) or NPM
    settings = [*_NPM_QUIET.items(), ("registry", registry)]
    urls = [registry]
    for key, value in sorted(values.items()):
        if re.fullmatch(r"@[^:=\s]+:registry", key) and (address := _address(value, f"npm {key}", warnings)):
            settings.append((key, address))
            urls.append(address)
    if values.get("strict-ssl", "").lower() == "false":
        settings.append(("strict-ssl", "false"))
    settings += [(key, values[key]) for key in _NPM_LOCK_KEYS if values.get(key)]
    return tuple(settings), urls


def _go_settings(environment: Mapping[str, str], warnings: list[str]) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """The variables that say where Go gets modules and what it checks, and the addresses in them."""
    settings = [(name, environment[name]) for name in _GO_NAMES if environment.get(name)]
    parts = re.split(r"([,|])", environment.get("GOPROXY", ""))
    urls: list[str] = []
    for at in range(0, len(parts), 2):
        if parts[at].strip() not in ("", "direct", "off"):
            parts[at] = _address(parts[at], "GOPROXY", warnings)
            urls.append(parts[at])
    if not any(parts[::2]) or not all(urls):
        if environment.get("GOPROXY"):
            warnings.append("GOPROXY names no address that builds can reach: Go's own default is used there")
        return tuple(settings), []
    return (("GOPROXY", "".join(parts)), *settings), urls


def _address(url: str, setting: str, warnings: list[str]) -> str:
    """An http(s) address without credentials, `""` if it is none (a local path, a `file:` index)."""
    if not url:
        return ""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        warnings.append(f"{setting} is not an address that can be understood: left out of builds")
        return ""
    if parts.scheme not in _PORTS or not host or re.search(r"\s", url.strip()):
        return ""
    if parts.username is not None or parts.password is not None:
        warnings.append(f"{setting} {_shown(url)} holds credentials: builds use it without them")
    name = f"[{host}]" if ":" in host else host
    netloc = name if port is None else f"{name}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))


def _shown(url: str) -> str:
    """An address as it may appear in a message: without what stands before the host."""
    return re.sub(r"//[^/]*@", "//", url)


def _hosts(urls: Sequence[str]) -> tuple[str, ...]:
    """The `host:port` names behind some addresses, each once."""
    names: list[str] = []
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        allowed = (host, *_FILES_OF.get(host, ()))
        names.extend(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in allowed)
    return tuple(dict.fromkeys(names))


def _certificates(files: Sequence[str], inline: Sequence[str], warnings: list[str]) -> str:
    """The certificates of all these bundles in one text; only certificates, whatever else the files hold."""
    found: dict[str, None] = {}
    for file in dict.fromkeys(files):
        try:
            text = Path(file).read_text("utf-8", "replace")
        except OSError as error:
            warnings.append(f"the certificate bundle {file} cannot be read ({error.strerror}): left out of builds")
            continue
        found.update(dict.fromkeys(_CERTIFICATE.findall(text)))
    for text in inline:
        found.update(dict.fromkeys(_CERTIFICATE.findall(text)))
    return "".join(f"{certificate}\n" for certificate in found)


_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")

"""Gets the archives of packs: from the registries this machine uses, or from a folder that holds them already.

Downloads go on where an interrupted one stopped, and an archive counts only once its digest is right.
"""

import hashlib
import shutil
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx

from hearth.runtimes.pack_table import Archive, Digest
from hearth.runtimes.registries import NPM, PYPI, Registries

#: How often one archive is asked for before giving up, when the connection breaks.
ATTEMPTS = 5
TIMEOUT_S = 60.0
#: Seconds before the second attempt; each further one waits twice as long.
PAUSE_S = 1.0
_INDEX_BYTES_MAX = 64 * 1024 * 1024
_SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"

Progress = Callable[[int], None]
"""Told how many bytes of an archive are there."""


class DownloadFailed(Exception):
    """An archive could not be had, or is not what it should be; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where archives come from. `indexes` are PyPI simple indexes, `scopes` npm registries of a scope (`@deno`).

    `mirror`, a folder of archives, replaces all of it: nothing is downloaded then.
    """

    npm: str = NPM
    scopes: Mapping[str, str] | None = None
    indexes: Sequence[str] = (PYPI,)
    certificates: str = ""
    trusted_hosts: frozenset[str] = frozenset()
    mirror: Path | None = None


def machine_sources(registries: Registries, mirror: Path | None = None) -> Sources:
    """The registries that pip and npm of this machine are set up for."""
    npm, pip = dict(registries.npm), dict(registries.pip)
    npm_registry = npm.get("registry", NPM)
    trusted = set(pip.get("trusted-host", "").split())
    if npm.get("strict-ssl") == "false":
        trusted.add(urlsplit(npm_registry).hostname or "")
    return Sources(
        npm=npm_registry,
        scopes={key.removesuffix(":registry"): value for key, value in npm.items() if key.startswith("@")},
        indexes=(pip.get("index-url", PYPI), *pip.get("extra-index-url", "").split()),
        certificates=registries.ca,
        trusted_hosts=frozenset(trusted),
        mirror=mirror,
    )


def fetch(
    archive: Archive,
    sources: Sources,
    folder: Path,
    progress: Progress = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """The verified archive in `folder`, got unless it is there already. Raises DownloadFailed and OSError.

    What an interrupted call left (`<file>.part`) is continued by the next one.
    """
    path = folder / archive.file
    if path.is_file():
        if _matches(path, archive.digest):
            progress(archive.size_bytes)
            return path
        path.unlink()
    part = folder / f"{archive.file}.part"
    if sources.mirror is not None:
        _copy(archive, sources.mirror, part)
    else:
        _download(archive, sources, part, progress, pause)
    part.rename(path)
    return path


def _copy(archive: Archive, mirror: Path, part: Path) -> None:
    source = mirror / archive.file
    if not source.is_file():
        raise DownloadFailed(
            f"{archive.file} is not in the folder {mirror}. "
            f"On a machine with a network: `hearth runtimes fetch --to FOLDER` the runtime, then bring the folder here."
        )
    shutil.copyfile(source, part)
    if not _matches(part, archive.digest):
        part.unlink()
        raise DownloadFailed(f"{source} is damaged: it is not the file with the digest {archive.digest}.")


def _download(
    archive: Archive, sources: Sources, part: Path, progress: Progress, pause: Callable[[float], None]
) -> None:
    clients = _Clients(sources)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                is_resumed = _continue(archive, sources, part, progress, clients)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise DownloadFailed(
                        f"{archive.file} could not be downloaded: {_why(error).rstrip('.')}. What has come is kept: "
                        "run the command again to continue."
                    ) from error
                pause(PAUSE_S * 2 ** (attempt - 1))
                continue
            if _matches(part, archive.digest):
                return
            found = _digest(part, archive.digest.algorithm)
            part.unlink()
            if not is_resumed:
                raise DownloadFailed(
                    f"{archive.file} is not what it should be: its digest is {archive.digest.algorithm}:{found}, "
                    f"not {archive.digest}. Nothing was installed. Tell whoever runs the registry of this machine."
                )
            # The first part may have been another file's: once more from the start.
    finally:
        clients.close()
    raise DownloadFailed(f"{archive.file} could not be downloaded in {ATTEMPTS} attempts.")


def _continue(archive: Archive, sources: Sources, part: Path, progress: Progress, clients: "_Clients") -> bool:
    """Download what is missing; returns whether some of it was there. Raises TransportError, DownloadFailed."""
    have = part.stat().st_size if part.exists() else 0
    if have == archive.size_bytes:
        return True
    if have > archive.size_bytes:
        part.unlink()
        have = 0
    url = _address(archive, sources, clients)
    headers = {"accept-encoding": "identity", **({"range": f"bytes={have}-"} if have else {})}
    with clients.of(url).stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise httpx.ReadError("the rest of the file cannot be had; starting again")
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise httpx.ReadError(f"the registry answered {answer.status_code}")
        if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise DownloadFailed(
                f"The registry of this machine has no {archive.file} (it answered {answer.status_code}). "
                "Look at the configuration of pip and npm, or use a folder with the archives (--from)."
            )
        is_resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        size = have if is_resumed else 0
        with part.open("ab" if is_resumed else "wb") as file:
            for piece in answer.iter_raw():  # as it comes: what is gathered to a size is lost with the connection
                size += len(piece)
                if size > archive.size_bytes:
                    break
                file.write(piece)
                progress(size)
    if size > archive.size_bytes:
        part.unlink()
        raise DownloadFailed(f"{archive.file} is larger than the {archive.size_bytes} bytes it should have.")
    if size < archive.size_bytes:
        raise httpx.ReadError("the connection ended early")
    return is_resumed


class _Clients:
    """HTTP clients of one download: one that checks certificates, one for the hosts trusted without."""

    def __init__(self, sources: Sources) -> None:
        self._trusted = sources.trusted_hosts
        context = ssl.create_default_context()
        if sources.certificates:
            context.load_verify_locations(cadata=sources.certificates)
        self._strict = httpx.Client(verify=context, follow_redirects=True, timeout=TIMEOUT_S)
        self._loose = httpx.Client(verify=False, follow_redirects=True, timeout=TIMEOUT_S) if self._trusted else None  # noqa: S501 - digests are checked, and pip's own configuration says so

    def of(self, url: str) -> httpx.Client:
        parts = urlsplit(url)
        names = {parts.hostname or "", f"{parts.hostname}:{parts.port}"}
        return self._loose if self._loose is not None and names & self._trusted else self._strict

    def close(self) -> None:
        self._strict.close()
        if self._loose is not None:
            self._loose.close()


def _address(archive: Archive, sources: Sources, clients: _Clients) -> str:
    """The address of an archive. Raises DownloadFailed where no index has it, and TransportError."""
    if archive.provider == "npm":
        scope = archive.package.rpartition("/")[0]
        registry = (sources.scopes or {}).get(scope, sources.npm)
        return f"{registry.rstrip('/')}/{quote(archive.package, safe='@/')}/-/{quote(archive.file)}"
    for index in sources.indexes:
        page = f"{index.rstrip('/')}/{archive.package}/"
        answer = clients.of(page).get(page, headers={"accept": f"{_SIMPLE_JSON}, text/html;q=0.5"})
        if answer.status_code != httpx.codes.OK or len(answer.content) > _INDEX_BYTES_MAX:
            continue
        link = _files(answer).get(archive.file)
        if link:
            return urljoin(str(answer.url), link)
    raise DownloadFailed(
        f"None of the indexes pip of this machine uses has {archive.file}. "
        "Look at pip's configuration, or use a folder with the archives (--from)."
    )


def _files(answer: httpx.Response) -> dict[str, str]:
    """File name -> address of a page of a simple index, JSON (PEP 691) or HTML (PEP 503)."""
    if _SIMPLE_JSON in answer.headers.get("content-type", ""):
        listed: Any = answer.json()
        return {str(item["filename"]): str(item["url"]) for item in listed.get("files", ())}
    links = _Links()
    links.feed(answer.text)
    return {urlsplit(link).path.rpartition("/")[2]: link for link in links.found}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.extend(value for name, value in attrs if name == "href" and value)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _matches(path: Path, digest: Digest) -> bool:
    return _digest(path, digest.algorithm) == digest.value


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()

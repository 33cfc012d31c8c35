"""Which server and project are meant, with which key, and the HTTP client for it.

Each of the three is taken from the first that names it: flag, environment (`HEARTH_ENDPOINT`, `HEARTH_PROJECT`,
`HEARTH_KEY`), project file, `credentials.json` of a data folder on this machine.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from hearth import CONTRACT_VERSION, __version__
from hearth.cli.client.problems import NotSetUp, Problem, Refused, WrongUse
from hearth.cli.client.project import Project

CREDENTIALS_FILE = "credentials.json"
#: Seconds for one request: an execution may take 30, a chunk of code its time on a slow line.
TIMEOUT_S = 120.0
#: Requests that may be sent again are tried this often, when the server says "later" or cannot be reached.
ATTEMPTS = 4
#: Pause before the second attempt, doubled for each further one, seconds; `retry-after` counts up to the longest.
PAUSE_S, PAUSE_MAX_S = 0.5, 10.0
_LATER = frozenset({429, 502, 503, 504})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Given:
    """What was said on the command line; `""` and None where nothing was."""

    endpoint: str = ""
    project: str = ""
    key: str = field(default="", repr=False)
    data_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A project on a server. `endpoint` ends in the API's version, without a slash."""

    endpoint: str
    project_id: str
    key: str = field(repr=False)


def find_target(given: Given, environment: Mapping[str, str], project: Project | None, folder: Path) -> Target:
    """Put the target together. Raises NotSetUp, naming what is missing and where it can be said."""
    local = _credentials(given, environment, folder)
    named = given.endpoint or environment.get("HEARTH_ENDPOINT", "") or (project.endpoint if project else "")
    endpoint = _endpoint(named or local.get("endpoint", ""))
    of_file = project.project_id if project else ""
    project_id = given.project or environment.get("HEARTH_PROJECT", "") or of_file or local.get("projectId", "")
    if not project_id:
        raise NotSetUp("No project is named: use --project, HEARTH_PROJECT, or `projectId` in appwrite.config.json.")
    key = given.key or environment.get("HEARTH_KEY", "")
    if not key and local:
        # A project file comes with code from anywhere: it must not be able to have this machine's key sent elsewhere.
        if _origin(endpoint) != _origin(_endpoint(local.get("endpoint", ""))):
            raise NotSetUp(
                f"There is no API key for {endpoint}: the one in {CREDENTIALS_FILE} is for {local.get('endpoint')}. "
                "Use --key or HEARTH_KEY."
            )
        key = local.get("apiKey", "")
    if not key:
        raise NotSetUp(
            "There is no API key. Use --key, HEARTH_KEY, or --data-dir with the data folder of a server on this "
            f"machine (its {CREDENTIALS_FILE} can be read by the server's owner)."
        )
    return Target(endpoint, project_id, key)


def _credentials(given: Given, environment: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    """The document that a server left for its owner; empty if there is none where nobody named one."""
    named = given.data_dir or (Path(environment["HEARTH_DATA_DIR"]) if environment.get("HEARTH_DATA_DIR") else None)
    for data_dir in (named,) if named is not None else dict.fromkeys((Path("data"), folder / "data")):
        path = data_dir / CREDENTIALS_FILE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if named is not None and given.data_dir is not None:
                raise NotSetUp(f"There is no {path}: a server writes it at its first start.") from None
            continue
        except PermissionError:
            if given.data_dir is not None:
                raise NotSetUp(f"{path} may not be read by you, only by the server's owner.") from None
            continue
        except (OSError, ValueError) as error:
            raise NotSetUp(f"{path} cannot be used: {error}") from error
        if isinstance(document, dict):
            return {name: value for name, value in document.items() if isinstance(value, str)}
    return {}


def _endpoint(text: str) -> str:
    if not text:
        raise NotSetUp(
            "No server is named: use --endpoint, HEARTH_ENDPOINT, `endpoint` in appwrite.config.json, or --data-dir "
            "with the data folder of a server on this machine."
        )
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUse(f"The endpoint has to be an address such as http://127.0.0.1:8080/v1, not {text}.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _origin(endpoint: str) -> tuple[str, str, int]:
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, "loopback" if host in _LOOPBACK else host, port


class Connection:
    """The API of one project. Safe to use from several threads. Every call raises Refused, or Problem for no answer."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._stopped = threading.Event()
        headers = {
            "x-appwrite-project": target.project_id,
            "x-appwrite-key": target.key,
            "x-appwrite-response-format": CONTRACT_VERSION,
            # What a deployment shows as its type.
            "x-sdk-name": "Command Line",
            "x-sdk-platform": "console",
            "x-sdk-language": "cli",
            "user-agent": f"HearthCLI/{__version__}",
        }
        self._client = httpx.Client(
            base_url=target.endpoint,
            headers=headers,
            timeout=TIMEOUT_S,
            # A proxy of the environment leads nowhere from this machine to itself.
            trust_env=urlsplit(target.endpoint).hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """From now on try nothing again; for a command that is being ended. From any thread."""
        self._stopped.set()

    def get(self, path: str, queries: "tuple[Mapping[str, Any], ...]" = ()) -> dict[str, Any]:
        """Read a document. `queries` are those of lists."""
        params = [(f"queries[{number}]", json.dumps(query)) for number, query in enumerate(queries)]
        return self._document(self.send("GET", path, params=params, again=True))

    def find(self, path: str) -> dict[str, Any] | None:
        """Read a document; None if there is none."""
        try:
            return self.get(path)
        except Refused as error:
            if error.status == 404 and error.type != "project_not_found":
                return None
            raise

    def change(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a change as JSON, once; the document of the answer, empty if it has none."""
        return self._document(self.send(method, path, json=dict(body or {})))

    def send(self, method: str, path: str, *, again: bool = False, **request: Any) -> httpx.Response:
        """Send a request; with `again` it may arrive twice, so it is repeated where that can help."""
        for attempt in range(1, ATTEMPTS + 1):
            is_last = attempt == ATTEMPTS or not again or self._stopped.is_set()
            try:
                answer = self._client.request(method, path, **request)
            except httpx.TransportError as error:
                if is_last:
                    raise self._unreachable(error) from error
                self._stopped.wait(PAUSE_S * 2 ** (attempt - 1))
                continue
            if answer.status_code < 400:
                return answer
            if is_last or answer.status_code not in _LATER:
                raise refusal(answer)
            self._stopped.wait(min(_retry_after(answer) or PAUSE_S * 2 ** (attempt - 1), PAUSE_MAX_S))
        raise AssertionError("the last attempt returns or raises")

    def open(self, path: str, *, headers: Mapping[str, str], timeout_s: float) -> httpx.Response:
        """Begin to read an answer without end; the caller closes it. `timeout_s` is the longest silence."""
        request = self._client.build_request("GET", path, headers=dict(headers), timeout=timeout_s)
        try:
            answer = self._client.send(request, stream=True)
            if answer.status_code >= 400:
                answer.read()
                answer.close()
                raise refusal(answer)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return answer

    def _unreachable(self, error: httpx.TransportError) -> Problem:
        reason = str(error) or type(error).__name__
        return Problem(
            f"No answer from {self.target.endpoint}: {reason}. Is the server running, and the address right?"
        )

    def _document(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code == 204 or not answer.content:
            return {}
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Problem(f"{answer.request.url} answered something that is not the API. Is the address right?")
        return document


def refusal(answer: httpx.Response) -> Refused:
    """The error an answer tells of."""
    try:
        document = answer.json()
        message, type = str(document["message"]), str(document.get("type", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        message, type = answer.text[:500].strip() or answer.reason_phrase, ""
    if answer.status_code == 401:
        message += " Look at the API key and its scopes, and at the project's id."
    return Refused(message, type, answer.status_code)


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0

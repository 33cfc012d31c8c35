"""`hearth push`: the functions of the project file onto a server, and their builds watched to the end."""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from hearth.cli.client import output
from hearth.cli.client.connection import Connection
from hearth.cli.client.packing import VARIABLES_FILE, pack_folder
from hearth.cli.client.problems import EXIT_FAILED, NotSetUp, Problem
from hearth.cli.client.project import Entry
from hearth.cli.client.uploading import Upload, state_folder, upload

#: Settings of a function that both the file and the API have, by the same name.
SETTINGS = (
    *("name", "execute", "events", "schedule", "timeout", "enabled", "logging", "entrypoint", "commands", "scopes"),
    *("specification", "buildSpecification", "runtimeSpecification", "deploymentRetention"),
)
#: What an update would put back to its default if it were not sent, besides.
_GIT = ("installationId", "providerRepositoryId", "providerBranch", "providerSilentMode", "providerRootDirectory")
_KEPT = (*SETTINGS, *_GIT, "providerBranches", "providerPaths")
#: Said with every chunk: whichever is the last one queues the build.
WITHOUT_CACHE = {"x-hearth-build-cache": "off"}
FINAL = frozenset({"ready", "failed", "canceled"})
#: Seconds between two looks at a build: at first, and at most.
_POLL_S, _POLL_MAX_S = 0.3, 2.0
#: Seconds after which a build is not waited for any more.
BUILD_WAIT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to push. `follow` = wait for the builds, with their logs."""

    activate: bool = True
    code: bool = True
    cache: bool = True
    variables: bool = False
    follow: bool = True


@dataclass(slots=True)
class Pushed:
    """What became of one function; `error` is the reason it was not pushed or not built, else empty."""

    function_id: str
    created: bool = False
    deployment_id: str = ""
    status: str = ""
    error: str = ""


def push(connection: Connection, entries: Sequence[Entry], options: Options, *, as_json: bool) -> int:
    """Push the functions, then follow the builds; 1 if one failed. All are sent before a build is waited for."""
    results = []
    for entry in entries:
        result = Pushed(entry.id)
        results.append(result)
        try:
            _push_one(connection, entry, options, result)
        except Problem as error:
            result.status, result.error = result.status or "failed", str(error)
            output.say(f"{entry.id}: {error}")
    if options.follow:
        for result in results:
            if result.deployment_id and not result.error:
                try:
                    _follow(connection, result, shows_log=not as_json)
                except Problem as error:
                    result.error = str(error)
                    output.say(f"{result.function_id}: {error}")
    if as_json:
        output.document([_wire(result) for result in results])
    return EXIT_FAILED if any(result.error for result in results) else 0


def settings_of(entry: Entry, existing: Mapping[str, Any] | None) -> dict[str, Any]:
    """The body that makes the function what the file says; what the file does not say stays as it is."""
    settings = {name: existing[name] for name in _KEPT if existing and existing.get(name) not in (None, "")}
    if "specification" in entry.raw:
        # The older of two ways to say it; both together would contradict each other.
        settings.pop("buildSpecification", None)
        settings.pop("runtimeSpecification", None)
    else:
        settings.pop("specification", None)
    settings |= {name: entry.raw[name] for name in SETTINGS if entry.raw.get(name) is not None}
    settings.setdefault("name", entry.id)
    return settings


def variables_of(entry: Entry) -> dict[str, str]:
    """The variables a folder and its entry name: `.env`, then `vars` over it. Raises NotSetUp."""
    path = entry.folder / VARIABLES_FILE
    found = read_env_file(path) if path.is_file() else {}
    for number, each in enumerate(entry.raw.get("vars") or ()):
        if not isinstance(each, dict) or not isinstance(each.get("key"), str):
            raise NotSetUp(f"vars[{number}] of {entry.id} has to be an object with `key` and `value`.")
        found[each["key"]] = str(each.get("value", ""))
    return found


def read_env_file(path: Path) -> dict[str, str]:
    """A file of `KEY=value` lines, as dotenv reads it, without replacing `${...}`. Raises NotSetUp."""
    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotSetUp(f"{path} cannot be read: {error}") from error
    return {key: value or "" for key, value in values.items()}


def _push_one(connection: Connection, entry: Entry, options: Options, result: Pushed) -> None:
    path = f"/functions/{entry.id}"
    with tempfile.TemporaryFile() as code:
        if options.code:
            # Before anything is changed: a folder that cannot be packed leaves the server as it is.
            packed = pack_folder(entry.folder, entry.ignore, code)
            code.flush()
            for note in packed.notes:
                output.say(f"{entry.id}: {note}")
        variables = variables_of(entry) if options.variables else {}
        existing = connection.find(path)
        result.created = existing is None
        settings = settings_of(entry, existing)
        runtime = entry.raw.get("runtime")
        if existing is None:
            if not runtime:
                raise NotSetUp(f"The function is new, and the project file does not name its `runtime` ({entry.id}).")
            connection.change("POST", "/functions", {"functionId": entry.id, "runtime": runtime, **settings})
        else:
            connection.change("PUT", path, {**settings, **({"runtime": runtime} if runtime else {})})
        if options.variables:
            _push_variables(connection, path, variables)
        if not options.code:
            result.status = "settings"
            output.say(f"{entry.id}: settings {'created' if result.created else 'updated'}")
            return
        size = os.fstat(code.fileno()).st_size
        output.say(f"{entry.id}: {packed.files} files, {size / 1e6:.2f} MB packed")
        with output.upload_bar(entry.id) as on_progress:
            job = Upload(
                connection,
                entry.id,
                code,
                size,
                {"activate": "true" if options.activate else "false"},
                on_progress,
                {} if options.cache else WITHOUT_CACHE,
            )
            deployment = upload(job, state_folder(os.environ) / "uploads")
    result.deployment_id, result.status = deployment["$id"], deployment["status"]
    output.say(f"{entry.id}: deployment {result.deployment_id}")


def _push_variables(connection: Connection, path: str, wanted: Mapping[str, str]) -> None:
    """Add and change variables. Those that are only on the server stay: their values may be nowhere else."""
    existing = {it["key"]: it for it in connection.get(f"{path}/variables")["variables"]}
    for key, value in wanted.items():
        known = existing.get(key)
        if known is None:
            body = {"variableId": "unique()", "key": key, "value": value, "secret": False}
            connection.change("POST", f"{path}/variables", body)
        elif known["secret"] or known["value"] != value:
            connection.change("PUT", f"{path}/variables/{known['$id']}", {"key": key, "value": value})


def _follow(connection: Connection, result: Pushed, *, shows_log: bool) -> None:
    """Print the log of a build as it comes, until it has ended. Raises Problem if it does not end well."""
    path = f"/functions/{result.function_id}/deployments/{result.deployment_id}"
    deadline = time.monotonic() + BUILD_WAIT_S
    shown, pause_s = "", _POLL_S
    while True:
        deployment = connection.get(path)
        log = deployment["buildLogs"]
        fresh = news(shown, log)
        if fresh and shows_log:
            sys.stdout.write(output.plain(fresh))
            sys.stdout.flush()
        shown = log
        result.status = deployment["status"]
        if result.status in FINAL:
            break
        if time.monotonic() > deadline:
            raise Problem(f"The build is still {result.status} after {BUILD_WAIT_S:.0f} s; it goes on in the server.")
        pause_s = _POLL_S if fresh else min(pause_s * 1.5, _POLL_MAX_S)
        time.sleep(pause_s)
    if shown and not shown.endswith("\n") and shows_log:
        print()
    if result.status != "ready":
        raise Problem(f"the build {result.status}{_last_line(shown)}")
    active = "active" if deployment["activate"] else "ready, not active"
    output.say(f"{result.function_id}: {active}, built in {deployment['buildDuration']} s")


def news(shown: str, log: str) -> str:
    """What of a log was not there before; a log that has lost its beginning is continued by its last line."""
    if log.startswith(shown):
        return log[len(shown) :]
    last = shown.rstrip("\n").rpartition("\n")[2]
    _, found, rest = log.rpartition(last) if last else ("", "", "")
    return rest.removeprefix("\n") if found else log


def _last_line(log: str) -> str:
    lines = output.plain(log).strip().splitlines()
    return f": {lines[-1].strip()}" if lines else ""


def _wire(result: Pushed) -> dict[str, Any]:
    names = {"function_id": "functionId", "deployment_id": "deploymentId"}
    return {names.get(name, name): value for name, value in asdict(result).items()}

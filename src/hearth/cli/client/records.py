"""Small commands on what a server keeps: executions, going back to a deployment, dead letters, settings."""

import json
from collections.abc import Sequence
from typing import Any

from hearth.cli.client import output
from hearth.cli.client.connection import Connection
from hearth.cli.client.problems import Problem, WrongUse
from hearth.model.ids import is_id

Query = dict[str, Any]

_NEWEST: Query = {"method": "orderDesc", "attribute": "$createdAt", "values": []}
#: Deployments that are looked through for the one before the active one.
_LOOKED_THROUGH = 100
LIMIT_MAX = 5_000


def executions(connection: Connection, function_id: str, *, limit: int, status: str, as_json: bool) -> int:
    """List a function's newest executions."""
    queries = (
        _NEWEST,
        _limit(limit),
        *(({"method": "equal", "attribute": "status", "values": [status]},) if status else ()),
    )
    found = connection.get(f"{_function(function_id)}/executions", queries)
    if as_json:
        output.document(found)
        return 0
    output.table(
        ("execution", "created", "trigger", "request", "status", "code", "duration", "start", "wait", "cpu", "memory"),
        [
            (
                it["$id"],
                output.moment(it["$createdAt"]),
                it["trigger"],
                f"{it['requestMethod']} {it['requestPath']}",
                it["status"],
                str(it["responseStatusCode"]),
                f"{it['duration'] * 1000:.0f} ms",
                *_figures(it),
            )
            for it in found["executions"]
        ],
    )
    return 0


def _figures(it: dict[str, Any]) -> tuple[str, str, str, str]:
    """How an execution started, how long it waited for that, and what it used; a dash for what is not known."""
    start = "-" if it.get("coldStart") is None else "cold" if it["coldStart"] else "warm"
    wait, cpu = (f"{it[name] * 1000:.1f} ms" if name in it else "-" for name in ("queueTime", "cpuTime"))
    return start, wait, cpu, f"{it['peakMemory'] / 2**20:.0f} MB" if "peakMemory" in it else "-"


def rollback(connection: Connection, function_id: str, deployment_id: str, *, as_json: bool) -> int:
    """Make another deployment the active one: the one named, or the newest ready one before the active one."""
    path = _function(function_id)
    active = connection.get(path)["deploymentId"]
    if not deployment_id:
        queries = (_NEWEST, _limit(_LOOKED_THROUGH))
        found = connection.get(f"{path}/deployments", queries)["deployments"]
        deployment_id = deployment_before(found, active)
        if not deployment_id:
            raise Problem(f"{function_id} has no ready deployment before its active one ({active or 'none'}).")
    elif not is_id(deployment_id):
        raise WrongUse(f"{deployment_id!r} is no id of a deployment.")
    changed = connection.change("PATCH", f"{path}/deployment", {"deploymentId": deployment_id})
    if as_json:
        output.document({"functionId": function_id, "deploymentId": changed["deploymentId"], "before": active})
    else:
        output.say(f"{function_id}: {changed['deploymentId']} is active, before it was {active or 'none'}")
    return 0


def deployment_before(newest_first: Sequence[dict[str, Any]], active: str) -> str:
    """The newest ready deployment that is older than the active one; without an active one the newest ready one."""
    ids = [it["$id"] for it in newest_first]
    older = newest_first[ids.index(active) + 1 :] if active in ids else () if active else newest_first
    return next((str(it["$id"]) for it in older if it["status"] == "ready"), "")


def list_dead_letters(connection: Connection, function_id: str, *, limit: int, as_json: bool) -> int:
    """List what is not tried any more."""
    found = connection.get(f"{_function(function_id)}/deadletters", (_limit(limit),))
    if as_json:
        output.document(found)
        return 0
    output.table(
        ("dead letter", "created", "reason", "attempts", "request", "error"),
        [
            (
                it["$id"],
                output.moment(it["$createdAt"]),
                it["reason"],
                str(it["attempts"]),
                f"{it['requestMethod']} {it['requestPath']}",
                it["error"].strip().rpartition("\n")[2],
            )
            for it in found["deadLetters"]
        ],
    )
    return 0


def show_dead_letter(connection: Connection, function_id: str, id: str) -> int:
    """One dead letter, whole, as JSON."""
    output.document(connection.get(_letter(function_id, id)))
    return 0


def redrive(connection: Connection, function_id: str, id: str, *, all: bool, as_json: bool) -> int:
    """Run the request of a dead letter again, or those of all."""
    path = f"{_function(function_id)}/deadletters"
    if _all_or_one(id, all):
        done = connection.change("POST", f"{path}/redrive")
        said = f"{done['total']} requests run again"
    else:
        done = connection.change("POST", f"{_letter(function_id, id)}/redrive")
        said = f"runs again as execution {done['$id']}"
    output.document(done) if as_json else output.say(f"{function_id}: {said}")
    return 0


def purge(connection: Connection, function_id: str, id: str, *, all: bool, as_json: bool) -> int:
    """Delete a dead letter, or all of a function."""
    if _all_or_one(id, all):
        connection.change("DELETE", f"{_function(function_id)}/deadletters")
    else:
        connection.change("DELETE", _letter(function_id, id))
    if as_json:
        output.document({"functionId": function_id, "purged": id or "all"})
    else:
        output.say(f"{function_id}: {id or 'all dead letters'} deleted")
    return 0


def settings(connection: Connection, function_id: str, changes: Sequence[str], *, as_json: bool) -> int:
    """Show the settings that only this platform has, after changing those given as `name=value`."""
    path = f"{_function(function_id)}/settings"
    known = connection.get(path)
    if changes:
        known = connection.change("PATCH", path, parse_changes(changes, known))
    if as_json:
        output.document(known)
    else:
        rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in known.items()]
        output.table(("setting", "value"), rows)
    return 0


def parse_changes(changes: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """`name=value` pairs as the body of a change; how a value is read depends on what the setting holds now.

    Raises WrongUse for a name that is not known, or a value that cannot be read.
    """
    body: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise WrongUse(f"{change!r} is not of the form name=value.")
        if name not in known or name.startswith("$") or name == "functionId":
            names = ", ".join(it for it in known if not it.startswith("$") and it != "functionId")
            raise WrongUse(f"There is no setting {name}. There are: {names}.")
        before: Any = known[name]
        if isinstance(before, str):
            body[name] = text
            continue
        if isinstance(before, list) and not text.startswith("["):
            body[name] = [part.strip() for part in text.split(",") if part.strip()]
            continue
        try:
            body[name] = json.loads(text)
        except ValueError:
            shown = json.dumps(before)
            raise WrongUse(f"{name}: {text!r} cannot be read; it is now {shown}.") from None
    return body


def _limit(limit: int) -> Query:
    if not 1 <= limit <= LIMIT_MAX:
        raise WrongUse(f"--limit has to be 1 to {LIMIT_MAX}, not {limit}.")
    return {"method": "limit", "values": [limit]}


def _all_or_one(id: str, all: bool) -> bool:
    if bool(id) == all:
        raise WrongUse("Name one dead letter, or say --all.")
    return all


def _function(id: str) -> str:
    if not is_id(id):
        raise WrongUse(f"{id!r} is no id of a function.")
    return f"/functions/{id}"


def _letter(function_id: str, id: str) -> str:
    if not is_id(id):
        raise WrongUse(f"{id!r} is no id of a dead letter.")
    return f"{_function(function_id)}/deadletters/{id}"

"""`hearth replay`: the stored request of an execution is run once more, and what differs is shown."""

from typing import Any

from hearth.cli.client import output
from hearth.cli.client.connection import Connection
from hearth.cli.client.logs import find_execution
from hearth.cli.client.problems import WrongUse
from hearth.model.ids import is_id


def replay(connection: Connection, execution_id: str, *, deployment_id: str, is_async: bool, as_json: bool) -> int:
    """Replay an execution with a deployment (`""` = the active one), and print the differences on standard output."""
    if deployment_id and not is_id(deployment_id):
        raise WrongUse(f"{deployment_id!r} is no id of a deployment.")
    function_id, found = find_execution(connection, execution_id, "")
    if not found:
        raise WrongUse(
            f"{execution_id} is a function; name one of its executions (`hearth executions {execution_id}`)."
        )
    body: dict[str, Any] = {"async": is_async} | ({"deploymentId": deployment_id} if deployment_id else {})
    done = connection.change("POST", f"/functions/{function_id}/executions/{found}/replay", body)
    if as_json:
        output.document(done)
        return 0
    output.say(f"{function_id}: {found} was run again as execution {done['executionId']}, {done['status']}")
    comparison = done["comparison"]
    if comparison is None:
        output.say(f"its result: hearth logs {function_id} {done['executionId']} --follow")
        return 0
    output.table(
        ("", "before", "after"),
        [
            ("deployment", done["originalDeploymentId"], done["deploymentId"]),
            ("status", *(str(comparison["statusCode"][side]) for side in ("before", "after"))),
            ("duration", *(f"{comparison['duration'][side] * 1_000:.0f} ms" for side in ("before", "after"))),
            ("body", *(_body(comparison["body"][side]) for side in ("before", "after"))),
        ],
    )
    for line in differences(comparison):
        print(output.plain(line))
    return 0


def differences(comparison: dict[str, Any]) -> list[str]:
    """What differs of headers, body, logs and errors, as lines; one line that says so if nothing does."""
    lines = []
    for header in comparison["headers"]:
        lines += [f"- {header['name']}: {value}" for value in header["before"]]
        lines += [f"+ {header['name']}: {value}" for value in header["after"]]
    for name in ("body", "logs", "errors"):
        part = comparison[name]
        if part["equal"]:
            continue
        lines += [f"{name}:", *part["diff"].splitlines()]
        if not part["diff"]:
            lines.append("they differ" if part.get("kind") != "binary" else "they differ, and are not text")
    return lines or ["status, headers, body, logs and errors are the same"]


def _body(side: dict[str, Any]) -> str:
    shown = f"{side['size']} bytes"
    if side["digest"]:
        shown += f", SHA-256 {side['digest'][:12]}"
    return shown + (", stored in part" if side["truncated"] else "")

"""`hearth logs`: what executions wrote, from their records or as it is written (server-sent events)."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from hearth.cli.client import output
from hearth.cli.client.connection import Connection
from hearth.cli.client.problems import Problem, Refused, WrongUse
from hearth.cli.client.pull import all_functions
from hearth.model.ids import is_id

#: Longest silence of a live log, seconds; the server sends something every 15.
_SILENCE_S = 60.0
#: Pause before a lost live log is opened again, seconds; doubled up to the longest.
_AGAIN_S, _AGAIN_MAX_S = 0.5, 10.0
#: Bytes of one event: a line has at most 8,000 characters.
_EVENT_MAX_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event (WHATWG HTML, 9.2)."""

    name: str
    data: str
    id: str


def show(connection: Connection, target: str, execution_id: str, *, last: int, follow: bool, as_json: bool) -> int:
    """Print logs of a function's newest executions, or of one; with `follow` go on with what comes, until Ctrl-C.

    `target` is the id of a function, or of an execution. A followed execution ends the command with its end.
    """
    function_id, execution_id = find_execution(connection, target, execution_id)
    if follow:
        path = f"/functions/{function_id}" + (f"/executions/{execution_id}" if execution_id else "")
        _follow(connection, path, as_json=as_json)
        return 0
    if execution_id:
        records = [connection.get(f"/functions/{function_id}/executions/{execution_id}")]
    else:
        queries = (
            {"method": "orderDesc", "attribute": "$createdAt", "values": []},
            {"method": "limit", "values": [last]},
        )
        records = connection.get(f"/functions/{function_id}/executions", queries)["executions"][::-1]
    for record in records:
        if as_json:
            names = ("$id", "$createdAt", "functionId", "status", "responseStatusCode", "duration", "logs", "errors")
            output.line_of({name: record[name] for name in names})
        else:
            _print_record(record)
    return 0


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """Cut the lines of a stream into events; comments and unknown fields are skipped."""
    name, id = "message", ""
    data: list[str] = []
    for line in lines:
        if line == "":
            if data:
                yield Event(name, "\n".join(data), id)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data" and sum(len(part) for part in data) < _EVENT_MAX_CHARS:
            data.append(value)
        elif field == "id":
            id = value


def _follow(connection: Connection, path: str, *, as_json: bool) -> None:
    """Print events as they come. A connection that is lost is opened again where it was."""
    last_id, pause_s = "", _AGAIN_S
    while True:
        headers = {"accept": "text/event-stream", **({"last-event-id": last_id} if last_id else {})}
        answer = connection.open(f"{path}/logs?follow=true", headers=headers, timeout_s=_SILENCE_S)
        try:
            for event in events_of(answer.iter_lines()):
                last_id, pause_s = event.id or last_id, _AGAIN_S
                _print_event(event, as_json=as_json)
                if event.name == "end" and "/executions/" in path:
                    return
            if "/executions/" in path:
                return
        except httpx.TransportError as error:
            output.say(f"The connection was lost ({str(error) or type(error).__name__}); it is opened again.")
        finally:
            answer.close()
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _AGAIN_MAX_S)


def _print_event(event: Event, *, as_json: bool) -> None:
    data: dict[str, Any] = json.loads(event.data)
    if as_json:
        output.line_of({"event": event.name, **data})
    elif event.name == "log":
        mark = "error" if data["stream"] == "errors" else "log"
        print(f"{data['executionId']} {mark:5} {output.plain(data['line'])}", flush=True)
    elif event.name == "end":
        took = f"{data['duration'] * 1000:.0f} ms"
        print(f"{data['executionId']} {data['status']} {data['responseStatusCode']} {took}", flush=True)
    else:
        output.say(data.get("message", event.name))


def _print_record(record: dict[str, Any]) -> None:
    took = f"{record['duration'] * 1000:.0f} ms"
    request = f"{record['requestMethod']} {output.plain(record['requestPath'])}"
    head = (record["$id"], output.moment(record["$createdAt"]), request, record["status"])
    print(*head, record["responseStatusCode"], took)
    for mark, text in (("log", record["logs"]), ("error", record["errors"])):
        for line in text.splitlines():
            print(f"  {mark:5} {output.plain(line)}")


def find_execution(connection: Connection, target: str, execution_id: str) -> tuple[str, str]:
    """Function and execution (`""`: none) meant by one or two ids. Raises WrongUse, Problem where nothing is found."""
    for id in (target, execution_id):
        if id and not is_id(id):
            raise WrongUse(f"{id!r} is no id.")
    if execution_id or connection.find(f"/functions/{target}") is not None:
        return target, execution_id
    for function in all_functions(connection):
        try:
            connection.get(f"/functions/{function['$id']}/executions/{target}")
        except Refused as error:
            if error.status != 404:
                raise
            continue
        return function["$id"], target
    raise Problem(f"The project has neither a function nor an execution {target}.")

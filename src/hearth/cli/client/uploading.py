"""Sends an archive as a deployment: in chunks side by side, and where it was left after an interruption.

Contract: clients 3. Which chunks the server has is noted in a file of the user's own state folder, by the archive's
digest, so that the same command goes on with the rest.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from hearth.cli.client.connection import Connection
from hearth.cli.client.problems import Refused

CHUNK_BYTES = 5 * 1024 * 1024  # contract: clients 3
PARALLEL = 8
#: Seconds an unfinished upload is remembered.
REMEMBERED_S = 24 * 3_600.0
_LOST = frozenset({"failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Upload:
    """One archive on its way to a function. `fields` are those of the form."""

    connection: Connection
    function_id: str
    code: BinaryIO
    size_bytes: int
    fields: Mapping[str, str]
    on_progress: Callable[[int, int], None]
    """Told of bytes that have arrived, and of all."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""


def upload(job: Upload, notes: Path) -> dict[str, Any]:
    """Send what the server does not have yet and return the deployment.

    `notes` is the folder where unfinished uploads are remembered. Raises Refused or Problem; the same call then goes
    on with the rest. Once an upload is finished, the same archive becomes a new deployment.
    """
    if job.size_bytes <= CHUNK_BYTES:
        whole = _send(job, 0, job.size_bytes, "", is_whole=True)
        job.on_progress(job.size_bytes, job.size_bytes)
        return whole
    memory = _Memory(notes / f"{_name(job)}.json")
    deployment_id, arrived = memory.read()
    starts = range(0, job.size_bytes, CHUNK_BYTES)
    if deployment_id:
        known = job.connection.find(f"/functions/{job.function_id}/deployments/{deployment_id}")
        if known is None or known["status"] in _LOST:
            deployment_id, arrived = "", set()
        elif known["status"] != "waiting" or known["chunksUploaded"] >= known["chunksTotal"]:
            memory.forget()
            return known  # it was complete when the command was interrupted
    if not deployment_id:
        deployment_id, arrived = str(_send(job, 0, CHUNK_BYTES, "")["$id"]), {0}
        memory.write(deployment_id, arrived)
    lock = threading.Lock()

    def progress() -> None:
        job.on_progress(sum(min(CHUNK_BYTES, job.size_bytes - start) for start in arrived), job.size_bytes)

    def send(start: int) -> dict[str, Any]:
        answer = _send(job, start, min(start + CHUNK_BYTES, job.size_bytes), deployment_id)
        with lock:
            arrived.add(start)
            memory.write(deployment_id, arrived)
            progress()
        return answer

    progress()
    # Where every chunk is noted but the upload is not finished, the server has lost one: all are sent again.
    missing = [start for start in starts if start not in arrived] or list(starts)
    workers = ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload")
    try:
        running = [workers.submit(send, start) for start in missing]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        for each in done:
            each.result()
        answers = [each.result() for each in running]
    except KeyboardInterrupt:
        job.connection.stop()  # what is on its way arrives and is noted, nothing is tried again
        raise
    except Refused as error:
        if error.status == 404:
            memory.forget()  # deleted meanwhile: the next attempt begins anew
        raise
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
    memory.forget()
    complete = [it for it in answers if it["chunksUploaded"] >= it["chunksTotal"]]
    return complete[0] if complete else job.connection.get(f"/functions/{job.function_id}/deployments/{deployment_id}")


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where this user's unfinished uploads are remembered (XDG base directories)."""
    base = environment.get("XDG_STATE_HOME", "")
    return (Path(base) if base else Path(environment.get("HOME", "~")).expanduser() / ".local" / "state") / "hearth"


def _send(job: Upload, start: int, end: int, deployment_id: str, *, is_whole: bool = False) -> dict[str, Any]:
    headers = dict(job.headers)
    if not is_whole:
        headers["content-range"] = f"bytes {start}-{end - 1}/{job.size_bytes}"
    if deployment_id:
        headers["x-appwrite-id"] = deployment_id
    data = os.pread(job.code.fileno(), end - start, start)
    answer = job.connection.send(
        "POST",
        f"/functions/{job.function_id}/deployments",
        data=dict(job.fields),
        files={"code": ("code.tar.gz", data, "application/gzip")},
        headers=headers,
        again=bool(deployment_id),  # a chunk without an id begins a deployment, so it is sent once
    )
    document: dict[str, Any] = answer.json()
    return document


def _name(job: Upload) -> str:
    """What an upload is known by again: where to, and what exactly."""
    digest = hashlib.sha256()
    target = job.connection.target
    said = json.dumps({**job.fields, **job.headers}, sort_keys=True)
    for part in (target.endpoint, target.project_id, job.function_id, said):
        digest.update(part.encode() + b"\0")
    job.code.seek(0)
    while piece := job.code.read(1024 * 1024):
        digest.update(piece)
    return digest.hexdigest()[:40]


class _Memory:
    """The note on one unfinished upload. That it cannot be kept only means that everything is sent again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> tuple[str, set[int]]:
        try:
            if time.time() - self._path.stat().st_mtime > REMEMBERED_S:
                return "", set()
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return str(document["deploymentId"]), {int(start) for start in document["arrived"]}
        except (OSError, ValueError, KeyError, TypeError):
            return "", set()

    def write(self, deployment_id: str, arrived: set[int]) -> None:
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps({"deploymentId": deployment_id, "arrived": sorted(arrived)}), encoding="utf-8")
            new.replace(self._path)

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

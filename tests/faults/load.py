"""Mixed load on a server that may die at any moment: what it said yes to is remembered, everything else forgotten."""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx

from tests.faults.checker import Accepted
from tests.support.archives import archive, incompressible
from tests.support.server import Server

#: Longest wait of one caller for an answer; a killed server answers sooner, by closing the connection.
ANSWER_WAIT_S = 40.0
CHUNKS = 3
BUILD_COMMAND = "sleep 0.77"


@dataclass
class Upload:
    """A source that is sent in chunks, whatever happens to the server in between."""

    id: str
    code: bytes
    sent: set[int] = field(default_factory=set)

    @property
    def missing(self) -> list[int]:
        return [number for number in range(CHUNKS) if number not in self.sent]


class Load:
    """Callers of one data folder over all rounds. Thread-safe where its threads meet."""

    def __init__(self, server: Server, source: str, seed: int) -> None:
        self._server, self._source, self._seed = server, source, seed
        self._lock = threading.Lock()
        self._accepted: list[Accepted] = []
        self._number = 0
        self._uploads: list[Upload] = []
        self.events_sent = 0
        self.events_accepted = 0

    def accepted(self, is_due: bool) -> tuple[Accepted, ...]:
        """What was accepted so far; `is_due` says whether delayed executions have to have ended by now."""
        with self._lock:
            return tuple(
                Accepted(it.kind, it.id, it.how, it.how != "delayed" or is_due or it.is_due) for it in self._accepted
            )

    def counts(self) -> Counter[str]:
        """How much of each kind was accepted."""
        with self._lock:
            return Counter([it.how for it in self._accepted]) + Counter(event=self.events_accepted)

    def delayed_are_due(self) -> None:
        """From now on everything delayed that was accepted so far has to end."""
        with self._lock:
            self._accepted = [Accepted(it.kind, it.id, it.how) for it in self._accepted]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Callers of every kind, until the end of the block; each ends with the answer it waits for."""
        over = threading.Event()
        kinds = (self._sync, self._sync, self._async, self._delayed, self._events, self._upload_one)
        threads = [threading.Thread(target=self._call, args=(kind, over), daemon=True) for kind in kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(ANSWER_WAIT_S * 2)
                assert not thread.is_alive(), "a caller got no answer, and its connection was not closed"

    def finish_uploads(self) -> None:
        """Send the chunks that are missing, so that every upload that was begun ends in a build."""
        with self._server.client() as client:
            for upload in self._uploads:
                for number in upload.missing:
                    self._send_chunk(client, upload, number)
        self._uploads = []

    def _call(self, kind: Callable[[httpx.Client, random.Random], bool], over: threading.Event) -> None:
        spread = random.Random(f"{self._seed} {kind.__name__} {self._next()}")
        with self._server.client(ANSWER_WAIT_S) as client:
            going_on = True
            while going_on and not over.wait(spread.uniform(0.0, 0.05)):
                try:
                    going_on = kind(client, spread)
                except httpx.TransportError:
                    over.wait(0.1)  # killed; it may come back within this block

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    def _accept(self, answer: httpx.Response, code: int, kind: str, how: str) -> None:
        if answer.status_code == code:
            with self._lock:
                self._accepted.append(Accepted(kind, answer.json()["$id"], how, is_due=how != "delayed"))
        else:
            assert answer.status_code in (429, 500, 503), f"{how}: {answer.status_code} {answer.text}"

    def _sync(self, client: httpx.Client, spread: random.Random) -> bool:
        path = "/hold" if spread.random() < 0.3 else "/"
        self._accept(client.post("/functions/f/executions", json={"path": path}), 201, "execution", "sync")
        return True

    def _async(self, client: httpx.Client, spread: random.Random) -> bool:
        request = {"async": True, "path": "/hold" if spread.random() < 0.3 else "/"}
        self._accept(client.post("/functions/f/executions", json=request), 202, "execution", "async")
        return True

    def _delayed(self, client: httpx.Client, spread: random.Random) -> bool:
        at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=spread.randint(2, 600))
        request = {"async": True, "scheduledAt": at.isoformat(timespec="milliseconds")}
        self._accept(client.post("/functions/f/executions", json=request), 202, "execution", "delayed")
        return True

    def _events(self, client: httpx.Client, spread: random.Random) -> bool:
        event = {"event": f"users.u{self._next()}.create", "payload": {"$id": "u"}}
        with self._lock:
            self.events_sent += 1
        if client.post("/events", json=event).status_code == 202:
            with self._lock:
                self.events_accepted += 1
        return True

    def _upload_one(self, client: httpx.Client, spread: random.Random) -> bool:
        """One upload a round: its build takes most of a second."""
        number = self._next()
        files = {"main.py": self._source, "ballast.bin": incompressible(60_000, seed=number)}
        upload = Upload(f"upload{number}", archive(files))
        self._uploads.append(upload)  # also one whose first answer is never read may have begun
        for chunk in spread.sample(range(CHUNKS), CHUNKS):
            self._send_chunk(client, upload, chunk)
        return bool(upload.missing)

    def _send_chunk(self, client: httpx.Client, upload: Upload, number: int) -> None:
        size = -(-len(upload.code) // CHUNKS)
        start, end = number * size, min((number + 1) * size, len(upload.code))
        answer = client.post(
            "/functions/b/deployments",
            data={"activate": "false", "commands": BUILD_COMMAND},
            files={"code": ("code.tar.gz", upload.code[start:end], "application/gzip")},
            headers={"content-range": f"bytes {start}-{end - 1}/{len(upload.code)}", "x-appwrite-id": upload.id},
        )
        if answer.status_code == 202:
            upload.sent.add(number)
            if len(upload.sent) == 1:
                self._accept(answer, 202, "deployment", "upload")
        else:
            assert answer.status_code in (429, 500, 503), f"upload: {answer.status_code} {answer.text}"

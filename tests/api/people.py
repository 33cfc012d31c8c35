"""People of the composed application: users with sessions, and clients that are somebody."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from hearth.control.bootstrap import bootstrap
from tests.api.whole import PROJECT_ID, Whole, whole

PASSWORD = "correct horse"


class Town:
    """A composed application with the users it needs, and a console somebody can log in to."""

    def __init__(self, whole: Whole, console_email: str, console_password: str) -> None:
        self.whole, self.store, self.executor, self.clock = whole, whole.store, whole.executor, whole.clock
        self.console_email, self.console_password = console_email, console_password

    @property
    def server(self) -> httpx.AsyncClient:
        """A client with a key that may do everything."""
        return self.whole.client()

    def anybody(self, project: str = PROJECT_ID, **headers: str) -> httpx.AsyncClient:
        """A client of the project with no key: a guest, or whoever its headers make it."""
        sent = {"x-appwrite-project": project} | {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.whole.app), base_url="http://api.test/v1", headers=sent, timeout=30
        )

    async def user(self, id: str, **fields: Any) -> dict[str, Any]:
        """Make a user with an address and a password."""
        wanted = {"userId": id, "email": f"{id}@example.com", "password": PASSWORD, "name": id.title()} | fields
        return await ok(self.server.post("/users", json=wanted))

    async def session(self, id: str) -> str:
        """Open a session for a user, as a server does; returns what `x-appwrite-session` takes."""
        secret: str = (await ok(self.server.post(f"/users/{id}/sessions", json={})))["secret"]
        return secret

    async def as_user(self, id: str) -> httpx.AsyncClient:
        """A client with a new session of a user."""
        return self.anybody(x_appwrite_session=await self.session(id))

    async def console(self, project: str = "console", **headers: str) -> httpx.AsyncClient:
        """A client of whoever operates the server, signed in as the CLI does it."""
        async with self.anybody("console") as client:
            given = {"email": self.console_email, "password": self.console_password}
            answer = await client.post("/account/sessions/email", json=given)
        assert answer.status_code == 201, answer.text
        line = next(line for line in answer.headers.get_list("set-cookie") if line.startswith("a_session_console="))
        return self.anybody(project, cookie=line, **headers)

    async def function(self, id: str, **fields: Any) -> str:
        """Make a function that answers; returns its id."""
        wanted = {"functionId": id, "name": id, "runtime": "python-3.12", "entrypoint": "main.py"} | fields
        await ok(self.server.post("/functions", json=wanted))
        uploaded = await ok(
            self.server.post(
                f"/functions/{id}/deployments", data={"activate": "true"}, files={"code": ("code.tar.gz", b"\x1f\x8b")}
            )
        )
        await self.whole.build(id, uploaded["$id"])
        return id


@asynccontextmanager
async def town(data_dir: Path) -> AsyncIterator[Town]:
    """Open a town on an empty data folder."""
    async with whole(data_dir) as made:
        await bootstrap(made.store, made.clock, data_dir, "http://api.test/v1")
        credentials = json.loads((data_dir / "credentials.json").read_text())
        yield Town(made, credentials["consoleEmail"], credentials["consolePassword"])


async def ok(answering: Any) -> dict[str, Any]:
    """The JSON of a good answer; `{}` where it has none."""
    answer: httpx.Response = await answering
    assert answer.status_code < 300, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json() if answer.status_code != 204 else {}


async def refused(answering: Any) -> tuple[int, str]:
    """Status and type of a refusal."""
    answer: httpx.Response = await answering
    assert answer.status_code >= 400, answer.text
    return answer.status_code, answer.json()["type"]

"""People of the console and deployed functions, for tests of what stands around functions."""

import gzip
from datetime import timedelta

import httpx

from hearth.auth.sessions import hash_secret, pack
from hearth.model.people import CONSOLE, Membership, Session, Team, User
from tests.api.support import NOW
from tests.api.whole import PROJECT_ID, Whole

TEAM_ID = "organization"
ARCHIVE = gzip.compress(b"not read by anything here")


async def add_console_user(app: Whole, id: str = "admin", roles: tuple[str, ...] = ("owner",)) -> str:
    """A user of the console in the organization of the default project; returns his session."""
    async with app.store.begin(CONSOLE) as unit:
        if await unit.teams.get(TEAM_ID) is None:
            await unit.teams.insert(Team(TEAM_ID, CONSOLE, NOW, NOW, "Organization"))
        await unit.users.insert(User(id, CONSOLE, NOW, NOW, NOW, email=f"{id}@example.com", name=id))
        if roles:
            member = Membership(f"m-{id}", CONSOLE, TEAM_ID, id, NOW, NOW, NOW, roles, NOW, confirmed=True)
            await unit.memberships.insert(member)
        await unit.sessions.insert(
            Session(f"s-{id}", CONSOLE, id, NOW, NOW, NOW + timedelta(days=365), hash_secret(f"secret-{id}"), "email")
        )
    await app.store.projects.update(PROJECT_ID, team_id=TEAM_ID)
    await app.hosting.load()
    return pack(id, f"secret-{id}")


async def add_user(app: Whole, id: str = "u1") -> str:
    """A user of the default project; returns his session."""
    async with app.store.begin(PROJECT_ID) as unit:
        await unit.users.insert(User(id, PROJECT_ID, NOW, NOW, NOW, email=f"{id}@example.com", name=id))
        expires = NOW + timedelta(days=365)
        await unit.sessions.insert(
            Session(f"s-{id}", PROJECT_ID, id, NOW, NOW, expires, hash_secret(f"secret-{id}"), "email")
        )
    return pack(id, f"secret-{id}")


def client_of(app: Whole, **headers: str) -> httpx.AsyncClient:
    """A client with just these headers (underscores stand for hyphens)."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(app.app)
    return httpx.AsyncClient(transport=transport, base_url="http://api.test/v1", headers=sent, timeout=30)


def admin_client(app: Whole, session: str) -> httpx.AsyncClient:
    """A console user acting on the default project."""
    return client_of(app, x_appwrite_project=PROJECT_ID, x_appwrite_mode="admin", x_appwrite_session=session)


def console_client(app: Whole, session: str) -> httpx.AsyncClient:
    """A console user at the console itself."""
    return client_of(app, x_appwrite_project=CONSOLE, x_appwrite_session=session)


async def deploy(app: Whole, client: httpx.AsyncClient, function_id: str = "f1", **fields: object) -> str:
    """Create a function with an active deployment; returns the deployment's id."""
    settings = {"name": "Greeter", "runtime": "python-3.12", "entrypoint": "main.py", "execute": ["any"], **fields}
    made = await client.post("/functions", json={"functionId": function_id, **settings})
    assert made.status_code == 201, made.text
    uploaded = await client.post(
        f"/functions/{function_id}/deployments",
        data={"activate": "true"},
        files={"code": ("code.tar.gz", ARCHIVE)},
    )
    deployment_id: str = uploaded.json()["$id"]
    await app.build(function_id, deployment_id)
    return deployment_id

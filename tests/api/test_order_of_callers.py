"""The checks of who is calling come in the order of the contract (functions-api 1, 6-18), with real credentials.

Each request fails the check it is named after and every later one; `test_order_of_checks` has the other checks.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from hearth.auth.keys import hash_secret
from hearth.model.resources import ApiKey
from tests.api.people import Town, ok, refused, town
from tests.api.support import NOW
from tests.api.whole import PROJECT_ID, SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

#: Neither the scope for this route nor a body that could be read.
SCOPED = ("/functions", b"{nope")
#: Guests and users hold the scope for this one.
OPEN = ("/functions/none/executions", b"{nope")
BAD_JWT = "not.a.jwt"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        yield made


async def refusal(here: Town, target: tuple[str, bytes], project: str = PROJECT_ID, **headers: str) -> tuple[int, str]:
    path, body = target
    async with here.anybody(project, **headers) as client:
        return await refused(client.post(path, content=body))


async def expired_key(here: Town) -> str:
    async with here.store.begin(PROJECT_ID) as unit:
        past = NOW - timedelta(days=1)
        await unit.keys.insert(
            ApiKey("old", PROJECT_ID, "old", hash_secret("standard_old"), (), past, past, expires_at=past)
        )
    return "standard_old"


async def test_credentials_are_checked_before_scopes_and_in_their_order(here: Town) -> None:
    await here.user("ann")
    session, old = await here.session("ann"), await expired_key(here)
    # 6: a key needs the header of its project, whatever else is sent
    async with here.anybody(
        "other", x_appwrite_key=SECRET, x_appwrite_session=session, x_appwrite_jwt=BAD_JWT
    ) as client:
        assert await refused(client.post(SCOPED[0], content=SCOPED[1])) == (403, "project_id_missing")
    # 7 before 8: both kinds of a user's credentials, one of them bad
    both = await refusal(here, SCOPED, x_appwrite_session=session, x_appwrite_jwt=BAD_JWT)
    assert both == (403, "user_jwt_and_cookie_set")
    # 8 before 10
    assert await refusal(here, SCOPED, x_appwrite_jwt=BAD_JWT, x_appwrite_key=old) == (401, "user_jwt_invalid")
    # 9 before 10
    paired = await refusal(here, SCOPED, x_appwrite_session=session, x_appwrite_key=old, x_appwrite_user="ann")
    assert paired == (403, "user_api_key_and_session_set")
    # 10 before 14
    assert await refusal(here, SCOPED, x_appwrite_key=old) == (401, "project_key_expired")
    # 14 before 19
    assert await refusal(here, SCOPED, x_appwrite_session=session) == (401, "general_unauthorized_scope")


async def test_what_is_switched_off_is_said_before_scopes_and_not_to_keys(here: Town) -> None:
    """12, then 13, then 14."""
    await here.user("ann")
    session = await here.session("ann")
    async with here.server as server:
        await ok(server.patch("/project/protocols/rest", json={"enabled": False}))
        assert await refusal(here, SCOPED, x_appwrite_session=session) == (403, "general_api_disabled")
        await ok(server.patch("/project/services/functions", json={"enabled": False}))
        assert await refusal(here, SCOPED, x_appwrite_session=session) == (403, "general_service_disabled")
        assert (await server.get("/functions")).status_code == 200


async def test_a_blocked_user_is_told_after_scopes_and_before_parameters(here: Town) -> None:
    """14 before 15 before 19."""
    await here.user("ann")
    session = await here.session("ann")
    async with here.server as server:
        await ok(server.patch("/users/ann/status", json={"status": False}))
    assert await refusal(here, SCOPED, x_appwrite_session=session) == (401, "general_unauthorized_scope")
    assert await refusal(here, OPEN, x_appwrite_session=session) == (403, "user_blocked")
    assert await refusal(here, OPEN) == (400, "general_argument_invalid")

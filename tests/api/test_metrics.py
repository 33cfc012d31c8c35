"""Who may read `/metrics`, and what the API counts of its own requests."""

import httpx
import pytest

from hearth.api.metrics import Scrapes, listen_app
from tests.api.support import World

pytestmark = pytest.mark.anyio
TOKEN = {"authorization": "Bearer t0ken"}


async def render() -> bytes:
    return b"hearth_up 1\n"


async def broken() -> bytes:
    raise RuntimeError("no figures")


def world() -> World:
    return World(scrapes=Scrapes(render, "t0ken"))


async def test_only_who_bears_the_token_reads_the_figures() -> None:
    async with world().client() as client:  # an API key with every scope
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "t0ken"}):
            refused = await client.get("/metrics", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "keys/metrics.token" in refused.json()["message"]
        shown = await client.get("/metrics", headers=TOKEN)
    assert (shown.status_code, shown.content) == (200, b"hearth_up 1\n")
    assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_on_a_domain_of_a_function_the_path_is_the_functions() -> None:
    async with world().client() as client:
        answer = await client.get("/metrics", headers={**TOKEN, "host": "f1.functions.localhost"})
    assert answer.status_code == 404  # no rule leads there
    assert b"hearth_up" not in answer.content


async def test_a_listener_of_its_own_shows_them_to_everybody_and_nothing_else() -> None:
    transport = httpx.ASGITransport(listen_app(render))
    async with httpx.AsyncClient(transport=transport, base_url="http://figures.test") as client:
        assert (await client.get("/metrics")).content == b"hearth_up 1\n"
        assert (await client.head("/metrics")).content == b""
        assert (await client.post("/metrics")).status_code == 405
        assert (await client.get("/v1/functions")).status_code == 404
    transport = httpx.ASGITransport(listen_app(broken))
    async with httpx.AsyncClient(transport=transport, base_url="http://figures.test") as client:
        assert (await client.get("/metrics")).status_code == 500


async def test_answers_are_counted_by_route_and_status() -> None:
    whole = world()
    async with whole.client() as client:
        await client.get("/v1/functions/f1")
        await client.get("/v1/functions/f1")
        await client.get("/v1/nothing")
        await client.get("/metrics", headers=TOKEN)
        await client.get("/", headers={"host": "none.functions.localhost"})
    assert whole.app.answered == {("functions.get", 200): 2, ("", 404): 1, ("metrics", 200): 1, ("visit", 404): 1}

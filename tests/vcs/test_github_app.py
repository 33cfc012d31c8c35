"""The operator's GitHub App: tokens of installations, whose installation it is, its key and settings."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.model.vcs import Provider
from hearth.outbound.caller import Caller
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.settings import SettingsInvalid, load
from hearth.vcs import forges as forges_module
from hearth.vcs.api import Api
from hearth.vcs.github import GitHub
from hearth.vcs.github_app import RENEW_BEFORE_S, GitHubApp, api_url, read_private_key
from tests.support.forges.github import CODE, INSTALLATION, app_key
from tests.support.forges.kinds import Side, app_keys, side
from tests.support.forges.standin import Fault

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def github() -> AsyncIterator[Side]:
    async with side("github") as made:
        yield made


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    caller = Caller(parse_allow_list(["127.0.0.1"]))
    yield Api(caller)
    await caller.close()


async def test_a_token_is_asked_for_once_and_renewed_before_it_ends(github: Side, api: Api) -> None:
    id, server = str(INSTALLATION), github.server
    app = GitHubApp(api, app_keys(server.url))
    several = await asyncio.gather(*(app.installation_token(id) for _ in range(20)))
    assert set(several) == {"ghs_0"}
    app.forget(id)
    server.lifetime_s = RENEW_BEFORE_S - 1
    assert await app.installation_token(id) == "ghs_1"
    server.lifetime_s = RENEW_BEFORE_S + 600
    assert [await app.installation_token(id) for _ in range(3)] == ["ghs_2"] * 3


async def test_a_request_that_is_canceled_does_not_keep_others_from_the_token(github: Side, api: Api) -> None:
    app = GitHubApp(api, app_keys(github.server.url))
    with github.server.lock:
        first = asyncio.create_task(app.installation_token(str(INSTALLATION)))
        second = asyncio.create_task(app.installation_token(str(INSTALLATION)))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
    assert await second in ("ghs_0", "ghs_1")


async def test_a_token_that_was_taken_back_is_replaced_once(github: Side) -> None:
    made = github.add()
    assert (await github.host.repository(github.installation, github.id(made))).name == "shop"
    # As after a suspension that is over.
    github.server.minted[0] = "taken back"
    assert (await github.host.repository(github.installation, github.id(made))).name == "shop"
    assert len(github.server.minted) == 2
    github.server.faults = [Fault(401), Fault(201, {}, b'{"token": "ghs_x"}'), Fault(401)]
    with pytest.raises(GitHostFailed, match="refused the credentials"):
        await github.host.repository(github.installation, github.id(made))
    assert github.server.faults == []


async def test_a_removed_installation_says_what_to_do(github: Side) -> None:
    made = github.add()
    gone = dataclasses.replace(github.installation, provider_installation_id="43")
    with pytest.raises(NoSuchRepository, match=r"may not see it|does not know it"):
        await github.host.repository(gone, github.id(made))


async def test_the_user_who_comes_back_must_see_the_installation(github: Side) -> None:
    host = github.host
    good = {"installation_id": str(INSTALLATION), "code": CODE, "setup_action": "install"}
    assert await host.authorized(good) == (str(INSTALLATION), "acme")
    for query, text in (
        # The id is in an address anybody can write.
        ({**good, "installation_id": "43"}, "not one of yours"),
        ({**good, "installation_id": "99999999"}, "not one of yours"),
        ({**good, "installation_id": "../app"}, "There is no installation"),
        ({**good, "code": "stolen"}, "did not accept the sign-in: The code is incorrect"),
        ({"installation_id": str(INSTALLATION)}, "OAuth"),
        ({"code": CODE}, "waits for consent"),
        ({}, "waits for consent"),
    ):
        with pytest.raises(GitHostFailed, match=text):
            await host.authorized(query)


async def test_another_key_or_app_is_refused_by_github(github: Side, api: Api) -> None:
    app = GitHubApp(api, app_keys(github.server.url, app_id="1"))
    with pytest.raises(GitHostFailed, match="refused the credentials"):
        await app.installation_token(str(INSTALLATION))


async def test_without_an_app_everything_says_so(github: Side, api: Api) -> None:
    host = GitHub(api, None)
    made = github.add()
    assert (host.authorize_url("state"), host.webhook_secret) == ("", "")
    with pytest.raises(GitHostFailed, match=r"No GitHub App is set up.*HEARTH_GITHUB_APP_ID"):
        await host.repository(github.installation, github.id(made))
    with pytest.raises(GitHostFailed, match="No GitHub App is set up"):
        await host.clone_source(github.installation, github.id(made))


async def test_tokens_of_the_app_go_to_the_app_s_github_only(github: Side) -> None:
    made = github.add()
    elsewhere = dataclasses.replace(github.installation, base_url="https://evil.example")
    assert (await github.host.clone_source(elsewhere, github.id(made))).url.startswith(github.server.url)


async def test_a_user_of_the_app_gets_no_repository_made(github: Side) -> None:
    user = dataclasses.replace(github.installation, organization="ada")
    with pytest.raises(GitHostFailed, match=r"no repository for ada.*Administration"):
        await github.host.create_repository(user, "fresh", True)


def test_where_the_interface_is() -> None:
    assert api_url("https://github.com") == "https://api.github.com"
    assert api_url("https://acme.ghe.com") == "https://api.acme.ghe.com"
    assert api_url("https://git.acme.example:8443") == "https://git.acme.example:8443/api/v3"


def test_the_key_is_read_or_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = tmp_path / "app.pem"
    with pytest.raises(ValueError, match="No such file"):
        read_private_key(str(path))
    for content in (b"", b"-----BEGIN RSA PRIVATE KEY-----\nxx\n", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not an RSA private key"):
            read_private_key(str(path))
    path.write_text(app_key()[0])
    assert read_private_key(str(path)) == app_key()[0]


WHOLE = {
    "HEARTH_GITHUB_APP_ID": "1234",
    "HEARTH_GITHUB_APP_SLUG": "hearth",
    "HEARTH_GITHUB_APP_PRIVATE_KEY_FILE": "/etc/hearth/app.pem",
    "HEARTH_GITHUB_CLIENT_ID": "Iv1",
    "HEARTH_GITHUB_CLIENT_SECRET": "very secret",
    "HEARTH_GITHUB_WEBHOOK_SECRET": "very secret",
}


@pytest.mark.parametrize("without", WHOLE)
def test_an_app_is_set_up_whole_or_not_at_all(without: str) -> None:
    assert load({}, WHOLE, None).settings.github_app_id == "1234"
    part = {name: value for name, value in WHOLE.items() if name != without}
    with pytest.raises(SettingsInvalid, match=without.removeprefix("HEARTH_").lower()) as invalid:
        load({}, part, None)
    assert "very secret" not in str(invalid.value)


@pytest.mark.parametrize(
    "url", ["github.com", "ssh://github.com", "https://u:p@github.com", "https://h:x", "https://h?a"]
)
def test_the_address_of_github_is_checked(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="github_url"):
        load({}, {"HEARTH_GITHUB_URL": url}, None)


def test_the_keys_of_the_app_come_from_the_settings(tmp_path: Path) -> None:
    assert forges_module.app_keys(load({}, {}, None).settings) is None
    path = tmp_path / "app.pem"
    whole = {**WHOLE, "HEARTH_GITHUB_APP_PRIVATE_KEY_FILE": str(path)}
    with pytest.raises(ValueError, match=r"github_app_private_key_file: .*: No such file"):
        forges_module.app_keys(load({}, whole, None).settings)
    path.write_text(app_key()[0])
    keys = forges_module.app_keys(load({}, whole, None).settings)
    assert keys is not None
    assert (keys.app_id, keys.slug, keys.client_id, keys.url) == ("1234", "hearth", "Iv1", "https://github.com")
    assert "very secret" not in repr(keys)
    assert "PRIVATE" not in repr(keys)


async def test_there_is_one_host_for_each_provider() -> None:
    caller = Caller(parse_allow_list([]))
    hosts = forges_module.forges(caller, None)
    await caller.close()
    assert set(hosts) == set(Provider) - {Provider.GIT}
    assert all(host.provider == provider for provider, host in hosts.items())

"""The operator's GitHub App: who we are at GitHub, and tokens for the accounts it is installed on.

An app proves itself by a JSON web token signed with its private key, and gets for it a token of one installation that
lives an hour. GitHub tells which installation a user made only in the address he comes back by, which anybody can
write; so he also signs in, and GitHub says whether the installation is one of his.
"""

import asyncio
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt

from hearth.ports import GitHostFailed
from hearth.vcs.api import Access, Api, numeric
from hearth.vcs.reading import find, items, moment, needed, number, text

DEFAULT_URL = "https://github.com"
API_VERSION = "2022-11-28"
#: Seconds an app's own token lives (GitHub allows 600), and how far back it begins: clocks differ.
JWT_S, JWT_BACK_S = 540, 60
#: Seconds before its end at which an installation's token is renewed: a clone may take a while.
RENEW_BEFORE_S = 600
#: Tokens of installations that are kept in memory.
TOKENS_MAX = 1_000
PAGE_MAX = 100


@dataclass(frozen=True, slots=True)
class AppKeys:
    """What the operator registered at GitHub; `private_key` is PEM, `url` where GitHub is (Enterprise: its own)."""

    app_id: str
    slug: str
    private_key: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    client_id: str
    client_secret: str = field(repr=False)
    url: str = DEFAULT_URL


def api_url(base: str) -> str:
    """Where the interface of a GitHub is: its own host for github.com and ghe.com, below /api/v3 for a server."""
    parts = urllib.parse.urlsplit(base)
    if parts.hostname == "github.com" or (parts.hostname or "").endswith(".ghe.com"):
        return f"{parts.scheme}://api.{parts.netloc}"
    return f"{base}/api/v3"


def access(base: str, authorization: str) -> Access:
    """The access to a GitHub's interface."""
    headers = {
        "authorization": authorization,
        "accept": "application/vnd.github+json",
        "x-github-api-version": API_VERSION,
    }
    return Access(api_url(base), base, headers)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    expires_at: datetime


class GitHubApp:
    """One app. `now` says the time (UTC). Everything raises GitHostFailed and NoSuchRepository as `Api` does."""

    def __init__(self, api: Api, keys: AppKeys, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._keys = keys
        self._now = now
        self._tokens: OrderedDict[str, _Token] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    @property
    def url(self) -> str:
        """Where GitHub is, without a slash at the end."""
        return self._keys.url.rstrip("/")

    @property
    def webhook_secret(self) -> str:
        """What GitHub signs the app's webhooks with."""
        return self._keys.webhook_secret

    async def installation_token(self, installation_id: str) -> str:
        """A token of one installation that is valid for RENEW_BEFORE_S at least; asked for once at a time."""
        lock = self._asking.setdefault(numeric(installation_id), asyncio.Lock())
        async with lock:
            kept = self._tokens.get(installation_id)
            if kept is None or (kept.expires_at - self._now()).total_seconds() < RENEW_BEFORE_S:
                path = f"/app/installations/{installation_id}/access_tokens"
                kept = await self._api.send(self._as_app(), "POST", path, {}, self._read_token)
                self._tokens[installation_id] = kept
            self._tokens.move_to_end(installation_id)
            while len(self._tokens) > TOKENS_MAX:
                self._asking.pop(self._tokens.popitem(last=False)[0], None)
        return kept.text

    def forget(self, installation_id: str) -> None:
        """Drop what is kept of an installation (it is gone, or its permissions changed)."""
        self._tokens.pop(installation_id, None)

    def install_url(self, state: str) -> str:
        """The page at which a user installs the app; GitHub gives `state` back."""
        host = urllib.parse.urlsplit(self.url).hostname or ""
        pages = "apps" if host == "github.com" or host.endswith(".ghe.com") else "github-apps"
        query = urllib.parse.urlencode({"state": state})
        return f"{self.url}/{pages}/{urllib.parse.quote(self._keys.slug, safe='')}/installations/new?{query}"

    async def account(self, installation_id: str, code: str) -> str:
        """The name of the account an installation belongs to, if the user who came back with `code` may see it.

        Raises GitHostFailed if he may not: the id came from his browser.
        """
        numeric(installation_id)
        user = await self._user_token(code)
        if not await self._sees(user, int(installation_id)):
            raise GitHostFailed(
                f"The installation {installation_id} of the GitHub App is not one of yours: install the app once more "
                "from Hearth's own link."
            )
        path = f"/app/installations/{installation_id}"
        return await self._api.get(self._as_app(), path, lambda answer: needed(answer, "account", "login"))

    async def _user_token(self, code: str) -> str:
        content = {"client_id": self._keys.client_id, "client_secret": self._keys.client_secret, "code": code}
        site = Access(self.url, self.url)
        answer: Any = await self._api.send(site, "POST", "/login/oauth/access_token", content, lambda a: a)
        found = find(answer, "access_token")
        if not isinstance(found, str) or not found:
            said = text(answer, "error_description") if isinstance(find(answer, "error_description"), str) else ""
            raise GitHostFailed(f"GitHub did not accept the sign-in{': ' + said[:200] if said else ''}. Try again.")
        return found

    async def _sees(self, user_token: str, installation_id: int) -> bool:
        async def page(index: int) -> tuple[list[int], bool]:
            query: dict[str, str | int] = {"per_page": PAGE_MAX, "page": index}
            found = await self._api.get(access(self.url, f"Bearer {user_token}"), "/user/installations", _ids, query)
            return found, len(found) == PAGE_MAX

        return installation_id in await self._api.all_pages(page)

    def _as_app(self) -> Access:
        now = int(self._now().timestamp())
        claims = {"iat": now - JWT_BACK_S, "exp": now + JWT_S, "iss": self._keys.app_id}
        token = jwt.encode(claims, self._keys.private_key, algorithm="RS256")
        return access(self.url, f"Bearer {token}")

    def _read_token(self, answer: Any) -> _Token:
        # Without a moment it is used once.
        return _Token(needed(answer, "token"), moment(answer, "expires_at") or self._now())


def _ids(answer: Any) -> list[int]:
    return [number(entry, "id") for entry in items(answer, "installations")]


def no_app() -> GitHostFailed:
    """What every call is refused with while no app is set up."""
    return GitHostFailed(
        "No GitHub App is set up on this server. Its operator can do that (HEARTH_GITHUB_APP_ID and the other "
        "settings whose names begin so); or connect with a token instead."
    )


def read_private_key(path: str) -> str:
    """The private key of an app from its file. Raises ValueError saying what is wrong with it."""
    try:
        found = Path(path).expanduser().read_text("ascii")
    except OSError as error:
        raise ValueError(f"github_app_private_key_file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        found = ""
    try:
        jwt.encode({}, found, algorithm="RS256")
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise ValueError(
            f"github_app_private_key_file: {path} is not an RSA private key in PEM form, as GitHub hands it out"
        ) from error
    return found

"""Speaks JSON to a git host's HTTP interface: tries again where that may help, reads pages, says what went wrong.

What a path means is the host modules' business; where a connection may go is the caller's (`hearth.outbound`).
"""

import asyncio
import json
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hearth.outbound.caller import Answer, AnswerTooLarge, Caller, CallFailed
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.reading import Malformed, read_json

T = TypeVar("T")
Query = Mapping[str, str | int]
Sleep = Callable[[float], Awaitable[None]]

#: Bytes of an answer; lists of a hundred repositories are about half of one MB at the wordiest host.
ANSWER_BYTES = 8_000_000
#: Bytes of a file that is read (`hearth.ports.GitHost.file`).
FILE_BYTES = 256 * 1024
#: Tries of one call, and the longest wait between two, seconds: somebody is waiting for the answer.
TRIES = 3
WAIT_MAX_S = 5.0
#: Pages of a list that are read at most.
PAGES_MAX = 10
#: The host refused before doing anything, so also what changes something may be sent again.
_REFUSED = frozenset({429, 503})
#: A machine in between lost the answer: only what may happen twice is sent again.
_LOST = frozenset({502, 504})
_TWICE = frozenset({"GET", "PUT", "PATCH", "DELETE"})
#: Comments with our marker that are tried.
CANDIDATES_MAX = 5
_MESSAGE_CHARS = 200


class Rejected(GitHostFailed):
    """The host understood and said no (4xx); `status` is its."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class TooLarge(GitHostFailed):
    """The answer has more bytes than are read."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the interface of one host is, how it is called in messages, and the headers that let us in.

    `renew` makes new headers where those may have been taken back before their time; None = nothing helps.
    """

    base: str
    host: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    renew: Callable[[], Awaitable[Mapping[str, str]]] | None = None


class Api:
    """The HTTP interface of any git host. Every method raises GitHostFailed and, for 404 and 410, NoSuchRepository."""

    def __init__(self, caller: Caller, sleep: Sleep = asyncio.sleep) -> None:
        self._caller = caller
        self._sleep = sleep

    async def get(self, access: Access, path: str, read: Callable[[Any], T], query: Query | None = None) -> T:
        """What `read` makes of the JSON at a path; where it raises Malformed, the host failed."""
        return (await self.get_page(access, path, read, query))[0]

    async def get_page(
        self, access: Access, path: str, read: Callable[[Any], T], query: Query | None = None
    ) -> tuple[T, Mapping[str, str]]:
        """As `get`, with the headers, which may say more about the list it is a page of."""
        answer = await self._exchange(access, "GET", path, query, None, {}, ANSWER_BYTES)
        return _read(access, answer, read), answer.headers

    async def send(self, access: Access, method: str, path: str, content: Any, read: Callable[[Any], T]) -> T:
        """Send JSON, and read what comes back as `get` does."""
        answer = await self._exchange(access, method, path, None, json.dumps(content).encode(), {}, ANSWER_BYTES)
        return _read(access, answer, read)

    async def tell(self, access: Access, method: str, path: str, content: Any = None) -> None:
        """Send JSON (None = no body); what comes back does not matter."""
        body = None if content is None else json.dumps(content).encode()
        await self._exchange(access, method, path, None, body, {}, ANSWER_BYTES)

    async def raw(
        self, access: Access, path: str, query: Query | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The bytes at a path, at most FILE_BYTES."""
        return (await self._exchange(access, "GET", path, query, None, headers or {}, FILE_BYTES)).body

    async def all_pages(self, page: Callable[[int], Awaitable[tuple[list[T], bool]]]) -> list[T]:
        """The items of pages 1, 2, ... (items, whether more follow), at most PAGES_MAX pages of them."""
        found: list[T] = []
        for index in range(1, PAGES_MAX + 1):
            items, more = await page(index)
            found += items
            if not more:
                break
        return found

    async def _exchange(
        self,
        access: Access,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | None,
        more: Mapping[str, str],
        limit_bytes: int,
    ) -> Answer:
        url = access.base + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"accept": "application/json", "user-agent": "hearth", **access.headers, **more}
        if body is not None:
            headers["content-type"] = "application/json"
        renew = access.renew
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES
            try:
                answer = await self._caller.call(method, url, headers, body, limit_bytes=limit_bytes)
            except AnswerTooLarge as error:
                raise TooLarge(f"{access.host}: {error}") from error
            except CallFailed as error:
                if last or not error.again or method not in _TWICE:
                    raise GitHostFailed(f"{access.host} could not be reached: {error}") from error
                wait_s = float(attempt)
            else:
                if answer.status == 401 and renew is not None and not last:
                    headers |= await renew()
                    renew = None
                    continue
                wait_s = _wait_s(answer, method, attempt)
                if last or wait_s < 0:
                    return _accepted(access, answer)
            await self._sleep(wait_s)
        raise AssertionError("the last attempt returned or raised")


def quoted(text: str) -> str:
    """A text as one part of a path. `.` and `..` would lead elsewhere, whatever they are written like."""
    if text in (".", ".."):
        raise NoSuchRepository(f"nothing at a git host is called {text!r}")
    return urllib.parse.quote(text, safe="")


def quoted_path(path: str) -> str:
    """A path inside a repository, its slashes kept."""
    return "/".join(quoted(part) for part in path.split("/") if part)


def below(name: str, path: str) -> str:
    """`name/path`, or the name alone for the root."""
    return f"{name}/{quoted_path(path)}".rstrip("/")


def numeric(id: str) -> str:
    """An id that is a number, as part of a path. Raises NoSuchRepository for anything else."""
    if not (id.isascii() and id.isdecimal() and len(id) < 20):
        raise NoSuchRepository(f"{id[:60]!r} is not a number, as the ids of this git host are")
    return id


def is_hash(ref: str) -> bool:
    """Whether a reference is a full commit hash, not a branch."""
    return len(ref) in (40, 64) and all(char in "0123456789abcdef" for char in ref)


def checked_base(url: str, default: str) -> str:
    """The address of a host as it is stored. Raises ValueError."""
    base = (url or default).rstrip("/")
    try:
        parts = urllib.parse.urlsplit(base)
        is_whole = parts.scheme in ("https", "http") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole or "@" in base or "?" in base or "#" in base or not base.isprintable() or " " in base:
        raise ValueError("baseUrl must be https://host or http://host, without user, query and fragment")
    return base


def needed_token(credentials: Mapping[str, str]) -> None:
    """Raises ValueError when there is no token that could be sent in a header."""
    token = credentials.get("token", "")
    if not token:
        raise ValueError("token is missing: make an access token at the git host")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token has characters that no token has")


async def named(asked: Awaitable[T], organization: str) -> T:
    """What was asked about an organization. Raises ValueError if the host does not know it."""
    try:
        return await asked
    except NoSuchRepository:
        raise ValueError(f"organization: the git host shows no {organization[:100]} to this token") from None


def clone_url(base: str, full_name: str) -> str:
    """Where a repository is cloned from. Made of the installation's own address, so credentials go nowhere else."""
    return f"{base.rstrip('/')}/{quoted_path(full_name)}.git"


async def replace_or_add(existing: Sequence[T], change: Callable[[T], Awaitable[None]]) -> bool:
    """Change the first thing of ours that we may change (anybody can write our marker); whether there was one."""
    for item in existing[:CANDIDATES_MAX]:
        try:
            await change(item)
        except (Rejected, NoSuchRepository):
            continue
        return True
    return False


def told_total(said: str, seen: int) -> int:
    """How many there are by a header of the answer, or the number seen so far where the host sent none."""
    return int(said) if said.isascii() and said.isdecimal() else seen


async def window(
    page: Callable[[int, int], Awaitable[tuple[list[T], int]]], offset: int, limit: int, page_max: int
) -> tuple[list[T], int]:
    """Items `offset` to `offset + limit` of a list that is read as page (number from 1, size), and its total.

    `offset` is a multiple of `limit`. Hosts cap sizes, so a large limit takes several pages.
    """
    if limit <= 0:
        return [], (await page(1, 1))[1]
    if limit <= page_max:
        return await page(offset // limit + 1, limit)
    found: list[T] = []
    total = 0
    first = offset // page_max
    last = min(-(-(offset + limit) // page_max), first + PAGES_MAX)
    for index in range(first, last):
        items, total = await page(index + 1, page_max)
        found += items
        if len(items) < page_max:
            break
    start = offset - first * page_max
    return found[start : start + limit], total


def _wait_s(answer: Answer, method: str, attempt: int) -> float:
    """Seconds until the next try of a call that was answered so; negative = there is none."""
    if answer.status not in _REFUSED and not (answer.status in _LOST and method in _TWICE):
        return -1.0
    asked = answer.headers.get("retry-after", "")
    wait_s = float(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 6 else float(attempt)
    # A limit that lasts longer is told to whoever waits, instead of making him wait for it.
    return wait_s if wait_s <= WAIT_MAX_S else -1.0


def _accepted(access: Access, answer: Answer) -> Answer:
    """The answer if it is a good one. Raises GitHostFailed, NoSuchRepository."""
    status = answer.status
    if 200 <= status < 300:
        return answer
    if status in (404, 410):
        raise NoSuchRepository(f"{access.host} does not know it, or the installation may not see it")
    said = _message(answer)
    if status == 401:
        raise Rejected(status, f"{access.host} refused the credentials of the installation: renew them{said}")
    limited = answer.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in answer.headers
    if status == 429 or (status == 403 and limited):
        after = answer.headers.get("retry-after", "")
        when = f" in {after} seconds" if after.isascii() and after.isdecimal() else " later"
        raise Rejected(status, f"{access.host} limits how often it is asked: try again{when}{said}")
    if status == 403:
        raise Rejected(status, f"{access.host} does not allow this with the credentials of the installation{said}")
    if 300 <= status < 400:
        raise GitHostFailed(f"{access.host} answered with a redirect: correct the address of the installation")
    if status >= 500:
        raise GitHostFailed(f"{access.host} failed with status {status}: try again later")
    raise Rejected(status, f"{access.host} refused with status {status}{said}")


def _message(answer: Answer) -> str:
    """What the host says about a refusal, if it is short and readable: `: ...`."""
    try:
        content = read_json(answer.body[:20_000])
    except Malformed:
        return ""
    if not isinstance(content, dict):
        return ""
    found = content.get("message") or content.get("error") or content.get("error_description")
    if isinstance(found, dict):
        found = found.get("message") or found
    readable = "".join(char if char.isprintable() else " " for char in str(found or ""))[:_MESSAGE_CHARS].strip()
    return f": {readable}" if readable else ""


def _read(access: Access, answer: Answer, read: Callable[[Any], T]) -> T:
    try:
        return read(read_json(answer.body))
    except Malformed as error:
        raise GitHostFailed(
            f"{access.host} answered what we do not understand ({error}): is the address of the installation right?"
        ) from None

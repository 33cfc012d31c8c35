"""One WebSocket: who is there, what he listens to, and frames both ways (contract: clients 6.1).

Three generations of clients subscribe differently: by channels in the address, by queries per slot in the address,
or by frames after the connection. Whoever reads slower than he is sent is closed, because memory is bounded.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog

from hearth.api import origins, wire_people
from hearth.api.call import Services
from hearth.api.client_address import client_address
from hearth.api.messages import QUERY_FIELDS_MAX, Receive, Request, Scope, Send
from hearth.api.realtime.filters import BadQuery, read_queries
from hearth.api.realtime.hub import Hub, Subscription, Watcher
from hearth.auth.identify import GUEST, Credentials
from hearth.model.actor import Actor
from hearth.model.ids import unique_id
from hearth.model.people import CONSOLE
from hearth.model.refusals import Refusal

log = structlog.get_logger(__name__)

#: Connections per minute and address (contract: side-services 13).
CONNECTIONS_PER_MINUTE = 128
#: Frames one connection may send in a minute; a client pings three times and subscribes now and then.
FRAMES_PER_MINUTE = 300
FRAME_MAX_CHARS = 64 * 1024
SUBSCRIPTIONS_MAX = 100
CHANNELS_MAX = 100
CHANNEL_MAX_CHARS = 256
#: What may wait to be sent to one client: frames and bytes.
QUEUED_FRAMES_MAX = 256
QUEUED_BYTES_MAX = 4 * 1024 * 1024
#: Seconds a client that is being closed gets for the last frames.
LAST_WORDS_S = 5.0
#: Seconds after which a ping makes us look again who is there: his session may have ended by itself.
RECONSIDER_S = 60.0

FORMAT_INVALID, POLICY_VIOLATION, TOO_MANY, RESTART = 1003, 1008, 1013, 1012
_SLOT = re.compile(r"(.+)\[(\d{1,6})\]\[\]\Z")
_PONG = b'{"type":"pong"}'
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Closed(Exception):
    """The conversation ends from our side, with a code and a reason the client is told."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class _Invalid(Exception):
    """A frame that is answered with an error; the conversation goes on."""


class Conversation:
    """One connection. `run` is its whole life."""

    def __init__(self, services: Services, hub: Hub, scope: Scope, receive: Receive, send: Send) -> None:
        self._services = services
        self._hub = hub
        self._receive = receive
        self._send = send
        # Headers and query are read as those of any request; a WebSocket has no body.
        self._request = Request({**scope, "method": "GET"}, receive)
        self._pairs = _parameters(self._request)
        self._outgoing: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._closing: _Closed | None = None
        self._frames: deque[float] = deque()
        self._credentials: Credentials | None = None
        self._considered_at = 0.0
        self._doubtful = False
        self._reconsidering: asyncio.Task[None] | None = None
        self._watcher: Watcher | None = None

    async def run(self) -> None:
        """Accept, talk until one side is done, and leave nothing behind."""
        if (await self._receive())["type"] != "websocket.connect":
            return
        await self._send({"type": "websocket.accept"})
        writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._talk())
        try:
            await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._watcher is not None:
                self._hub.remove(self._watcher)
            tasks = [task for task in (reader, writer, self._reconsidering) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in (reader, writer):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    # ------------------------------------------------------------------ to the client

    def offer(self, frame: bytes) -> None:
        """Queue a frame; a client for whom too much waits is closed. Never waits."""
        if self._closing is not None:
            return
        if len(self._outgoing) >= QUEUED_FRAMES_MAX or self._queued_bytes + len(frame) > QUEUED_BYTES_MAX:
            self._outgoing.clear()
            self._queued_bytes = 0
            self._close(_Closed(TOO_MANY, "Events came faster than you read them."))
            return
        self._outgoing.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()

    def stop(self) -> None:
        """The server stops."""
        self._close(_Closed(RESTART, "The server is stopping."), tell=False)

    def _close(self, end: _Closed, *, tell: bool = True) -> None:
        if self._watcher is not None:
            self._hub.remove(self._watcher)
        if self._closing is None:
            if tell:
                self._outgoing.append(_error(end.code, end.reason))
            self._closing = end
            self._wake.set()

    async def _write(self) -> None:
        """Send what is queued, in order, until the end. Ends the connection."""
        while True:
            while self._outgoing and self._closing is None:
                frame = self._outgoing.popleft()
                self._queued_bytes -= len(frame)
                await self._send_text(frame)
            if self._closing is not None:
                return await self._say_goodbye(self._closing)
            self._wake.clear()
            await self._wake.wait()

    async def _say_goodbye(self, end: _Closed) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                while self._outgoing:
                    await self._send_text(self._outgoing.popleft())
                await self._send({"type": "websocket.close", "code": end.code, "reason": end.reason})
        except (TimeoutError, OSError):
            return  # it does not read, so it will not hear why either

    async def _send_text(self, frame: bytes) -> None:
        await self._send({"type": "websocket.send", "text": frame.decode()})

    # ------------------------------------------------------------------ from the client

    async def _talk(self) -> None:
        try:
            await self._begin()
            while await self._hear():
                pass
        except _Closed as end:
            self._close(end)
            # The writer says it and ends the connection.
            await asyncio.Event().wait()

    async def _begin(self) -> None:
        """Checks in the order of the contract, then the first frame."""
        project_id = await self._admit()
        actor = await self._identify(project_id)
        watcher = Watcher(project_id, actor, self.offer, self._reconsider, self.stop)
        self._watcher = watcher
        self._hub.add(watcher)
        slots = self._subscribe_by_address(watcher)
        channels = sorted({channel for it in watcher.subscriptions.values() for channel in it.channels})
        user = await self._user(watcher)
        self.offer(_encode({"type": "connected", "data": {"channels": channels, "subscriptions": slots, "user": user}}))

    async def _admit(self) -> str:
        """The project of the connection. Raises _Closed."""
        request, services = self._request, self._services
        if self._pairs is None:
            raise _Closed(POLICY_VIOLATION, f"At most {QUERY_FIELDS_MAX} parameters may be sent.")
        project_id = self._parameter("project") or request.header(b"x-appwrite-project")
        project = await services.control.projects.get(project_id) if project_id not in ("", CONSOLE) else None
        if project is None and project_id != CONSOLE:
            raise _Closed(POLICY_VIOLATION, "Missing or unknown project ID: name it in `project`.")
        if project is not None and "websocket" in project.protocols_off:
            raise _Closed(POLICY_VIOLATION, "Realtime is switched off in this project.")
        address = client_address(request, services.settings.trusted_proxies)
        if services.settings.abuse:
            try:
                services.limits.take(f"realtime,ip:{address}", CONNECTIONS_PER_MINUTE, 60)
            except Refusal:
                raise _Closed(TOO_MANY, "Too many connections from this address. Try again in a minute.") from None
        origin = request.header(b"origin")
        if origin and not (
            origins.is_allowed(origin, request.header(b"host"), services.settings.allowed_origins)
            or origins.origin_allowed(origin, services.control.origin_book.hosts(project_id))
        ):
            raise _Closed(POLICY_VIOLATION, f"Invalid Origin: {origin[:128]} is not registered as a platform.")
        return project_id

    async def _identify(self, project_id: str) -> Actor:
        """Who is there, by cookie, JWT or header. Whatever is wrong with that makes a guest."""
        header = self._request.header
        self._credentials = Credentials(
            project_id=project_id,
            header_project_id=project_id,
            session=header(b"x-appwrite-session"),
            jwt=header(b"x-appwrite-jwt") or self._parameter("jwt"),
            cookie=header(b"cookie"),
            fallback_cookies=header(b"x-fallback-cookies"),
        )
        return await self._actor()

    async def _actor(self) -> Actor:
        self._considered_at = self._services.clock.monotonic()
        if self._credentials is None:
            return GUEST
        try:
            actor = await self._services.identify.identify(self._credentials)
        except Refusal:
            return GUEST
        return GUEST if actor.refusal else actor

    def _subscribe_by_address(self, watcher: Watcher) -> Mapping[str, str]:
        """Subscriptions of the first two generations; slot -> id."""
        slots: dict[str, tuple[list[str], list[str]]] = {}
        pairs = self._pairs or []
        channels = [value for name, value in pairs if name.startswith("channels[") and name.endswith("]")]
        for name, value in pairs:
            match = None if name.startswith("channels[") else _SLOT.match(name)
            if match is not None:
                names, queries = slots.setdefault(match[2], ([], []))
                if match[1] not in names:
                    names.append(match[1])
                if value not in queries:
                    queries.append(value)
        if channels and not slots:
            slots["0"] = channels, []
        ids = {}
        for slot, (names, queries) in slots.items():
            ids[slot] = unique_id()
            try:
                self._subscribe(watcher, ids[slot], names, queries)
            except _Invalid as error:
                raise _Closed(POLICY_VIOLATION, str(error)) from None
        return ids

    async def _hear(self) -> bool:
        """Answer one frame; False when the client has left."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return False
        self._count_frame()
        watcher = self._watcher
        assert watcher is not None  # noqa: S101 - set before the first frame is heard; narrows the type
        try:
            await self._answer(watcher, _read_frame(message.get("text")))
        except _Invalid as error:
            self.offer(_error(FORMAT_INVALID, str(error)))
        return True

    def _count_frame(self) -> None:
        now = self._services.clock.monotonic()
        self._frames.append(now)
        while self._frames[0] < now - 60:
            self._frames.popleft()
        if len(self._frames) > FRAMES_PER_MINUTE and self._services.settings.abuse:
            raise _Closed(TOO_MANY, f"At most {FRAMES_PER_MINUTE} messages may be sent in a minute.")

    async def _answer(self, watcher: Watcher, frame: Mapping[str, Any]) -> None:
        kind, data = frame.get("type"), frame.get("data")
        if kind == "ping":
            self.offer(_PONG)
            if self._services.clock.monotonic() - self._considered_at > RECONSIDER_S:
                self._reconsider()
        elif kind == "authentication":
            await self._authenticate(watcher, data)
        elif kind == "subscribe":
            made = [self._subscribe_by_frame(watcher, item) for item in _items(data)]
            self.offer(_response("subscribe", subscriptions=made))
        elif kind == "unsubscribe":
            ids = [_id_of(item) for item in _items(data)]
            for id in ids:
                self._hub.unsubscribe(watcher, id)
            self.offer(_response("unsubscribe", subscriptions=[{"subscriptionId": id} for id in ids]))
        else:
            raise _Invalid("Message type is not valid: send ping, authentication, subscribe or unsubscribe.")

    async def _authenticate(self, watcher: Watcher, data: Any) -> None:
        session = data.get("session") if isinstance(data, dict) else None
        if not isinstance(session, str) or not session:
            raise _Invalid("Message format is not valid: `data.session` must be the secret of a session.")
        self._credentials = Credentials(
            project_id=watcher.project_id, header_project_id=watcher.project_id, session=session
        )
        actor = await self._actor()
        if not actor.user_id:
            raise _Invalid("Session is not valid.")
        watcher.actor = actor
        self.offer(_response("authentication", user=await self._user(watcher)))

    def _subscribe_by_frame(self, watcher: Watcher, item: Mapping[str, Any]) -> Mapping[str, Any]:
        id = _id_of(item) if item.get("subscriptionId") else unique_id()
        channels, queries = item.get("channels", []), item.get("queries") or []
        if not isinstance(channels, list) or not isinstance(queries, list):
            raise _Invalid("Message format is not valid: `channels` and `queries` must be lists.")
        self._subscribe(watcher, id, channels, queries)
        return {"subscriptionId": id, "channels": channels, "queries": queries}

    def _subscribe(self, watcher: Watcher, id: str, channels: list[Any], queries: list[Any]) -> None:
        if len(channels) > CHANNELS_MAX or not all(
            isinstance(channel, str) and 0 < len(channel) <= CHANNEL_MAX_CHARS for channel in channels
        ):
            raise _Invalid(
                f"At most {CHANNELS_MAX} channels of 1 to {CHANNEL_MAX_CHARS} characters may be in one subscription."
            )
        if id not in watcher.subscriptions and len(watcher.subscriptions) >= SUBSCRIPTIONS_MAX:
            raise _Invalid(f"At most {SUBSCRIPTIONS_MAX} subscriptions may be open on one connection.")
        try:
            wanted = read_queries(queries)
        except BadQuery as error:
            raise _Invalid(f"Invalid query: {error}") from None
        self._hub.subscribe(watcher, id, Subscription(frozenset(channels), wanted))

    def _reconsider(self) -> None:
        """Look again who is there, in the background: one look at a time, and one more if asked meanwhile."""
        self._doubtful = True
        if self._reconsidering is None or self._reconsidering.done():
            self._reconsidering = asyncio.create_task(self._consider_again())

    async def _consider_again(self) -> None:
        watcher = self._watcher
        while watcher is not None and self._doubtful:
            self._doubtful = False
            try:
                watcher.actor = await self._actor()
            except Exception:
                # Who cannot be looked at hears nothing more than a guest does.
                log.exception("realtime: the user of a connection could not be looked up")
                watcher.actor = GUEST

    async def _user(self, watcher: Watcher) -> Mapping[str, Any] | None:
        """The account of whoever is there; None for guests."""
        if not watcher.actor.user_id:
            return None
        try:
            user = await self._services.control.people.users.get(watcher.project_id, watcher.actor.user_id)
        except Refusal:
            return None
        return wire_people.account(user)

    def _parameter(self, name: str) -> str:
        return next((value for key, value in self._pairs or () if key == name), "")


def _parameters(request: Request) -> list[tuple[str, str]] | None:
    """The parameters of the address in order, brackets and all; None when there are too many."""
    try:
        text = request.query_string.decode("latin-1")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return None


def _read_frame(text: Any) -> Mapping[str, Any]:
    if not isinstance(text, str) or len(text) > FRAME_MAX_CHARS:
        raise _Invalid(f"Message format is not valid: send JSON text of at most {FRAME_MAX_CHARS} characters.")
    try:
        frame = _decode(text)
    except (ValueError, RecursionError):
        raise _Invalid("Message format is not valid: it is not JSON.") from None
    if not isinstance(frame, dict):
        raise _Invalid("Message format is not valid: it is not a JSON object.")
    return frame


def _items(data: Any) -> list[dict[str, Any]]:
    items = [data] if isinstance(data, dict) else data
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise _Invalid("Message format is not valid: `data` must be a list of objects.")
    if len(items) > SUBSCRIPTIONS_MAX:
        raise _Invalid(f"At most {SUBSCRIPTIONS_MAX} subscriptions may be named in one message.")
    return items


def _id_of(item: Mapping[str, Any]) -> str:
    id = item.get("subscriptionId")
    if not isinstance(id, str) or not 0 < len(id) <= 64:
        raise _Invalid("Message format is not valid: `subscriptionId` must be text of 1 to 64 characters.")
    return id


def _response(to: str, **more: Any) -> bytes:
    return _encode({"type": "response", "data": {"to": to, "success": True, **more}})


def _error(code: int, message: str) -> bytes:
    return _encode({"type": "error", "data": {"code": code, "message": message}})

"""A receiver of webhooks on a loopback port, and the deliveries of one project over a real store."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hearth.auth.secrets import VariableCipher
from hearth.control.jobs import JobKind
from hearth.control.webhooks import WebhookBook, WebhooksControl
from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.jobs.deliveries import Deliveries
from hearth.jobs.worker import Worker
from hearth.model.events import Occurrence
from hearth.model.resources import Job, Webhook
from hearth.outbound.poster import Poster
from hearth.ports import Store
from hearth.store import open_store
from tests.store.samples import KEY, FakeClock, project
from tests.support.databases import put_database


@dataclass(slots=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Answers every POST with the next of `answers` (the last one for ever); `slow` holds answers back."""

    port: int = 0
    answers: list[int] = field(default_factory=lambda: [200])
    text: str = "thanks"
    slow: asyncio.Event | None = None
    received: list[Received] = field(default_factory=list)
    server_names: list[str] = field(default_factory=list)
    """The names that clients of a TLS receiver asked for."""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    async def count(self, number: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.received) >= number)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            if self.slow is not None:
                await self.slow.wait()
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            location = f"location: {self.url}\r\n" if 300 <= status < 400 else ""
            writer.write(
                f"HTTP/1.1 {status} x\r\n{location}content-length: {len(self.text)}\r\n\r\n{self.text}".encode()
            )
            await writer.drain()
            async with self.arrived:
                self.received.append(Received(lines[0].split(" ")[1], headers, body))
                self.arrived.notify_all()
        finally:
            writer.close()


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver()
    if tls is not None:
        tls.sni_callback = lambda _, name, __: made.server_names.append(name)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


def self_signed(name: str, folder: Path) -> ssl.SSLContext:
    """A certificate for `name` that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = folder / "receiver.pem"
    pem.write_bytes(private + certificate.public_bytes(encoding))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


class Sender:
    """Webhooks, deliveries and a worker for them, as the server composes them."""

    def __init__(self, store: Store, clock: FakeClock, allow: str) -> None:
        self.store, self.clock = store, clock
        self.book = WebhookBook()
        self.webhooks = WebhooksControl(store=store, clock=clock, book=self.book)
        self.poster = Poster(parse_allow_list([allow]))
        self.deliveries = Deliveries(
            store=store,
            clock=clock,
            webhooks=self.webhooks,
            book=self.book,
            poster=self.poster,
            payload_of=lambda subject: subject if isinstance(subject, dict) else None,
        )
        self.worker = Worker(
            store=store,
            clock=clock,
            owner="here/w",
            handlers={JobKind.WEBHOOK: self.deliveries.deliver},
            concurrency={JobKind.WEBHOOK: 4},
            on_dead=self._dead,
        )

    async def _dead(self, job: Job, error: str) -> None:
        async with self.store.begin(job.project_id) as unit:
            await self.deliveries.give_up_in(unit, job, error)

    def happened(self, event: str, payload: Any = None, user_id: str = "") -> None:
        self.deliveries.heard(Occurrence("p", event, {"$id": "x"} if payload is None else payload, user_id))

    async def webhook(self, id: str = "h") -> Webhook:
        return await self.webhooks.get("p", id)

    async def queued(self, number: int) -> None:
        """Wait until what was heard has become so many jobs."""
        async with asyncio.timeout(10):
            while len(await self.store.jobs.unfinished()) < number:
                await self.store.wait_for_jobs(0.05)

    async def attempt(self) -> int:
        """Carry out every delivery that is due, as the worker would; returns how many."""
        jobs = await self.store.jobs.claim("here/w", [JobKind.WEBHOOK], 100, 30)
        await asyncio.gather(*(self.worker._carry_out(job) for job in jobs))
        return len(jobs)

    async def attempts(self) -> int:
        """Go on until nothing is left to be tried, moving the clock on to each next time; returns how many."""
        number = 0
        while await self.store.jobs.unfinished():
            number += await self.attempt()
            self.clock.move(301)
        return number


@asynccontextmanager
async def sender(data_dir: Path, allow: str = "127.0.0.1") -> AsyncIterator[Sender]:
    """A sender over the database in `data_dir`, which may hold what an earlier one left."""
    clock = FakeClock()
    put_database(data_dir)
    store = await open_store("", data_dir=data_dir, secret=VariableCipher(KEY), clock=clock)
    made = Sender(store, clock, allow)
    try:
        if await store.projects.get("p") is None:
            await store.projects.insert(project())
        await made.webhooks.load()
        made.deliveries.start()
        yield made
    finally:
        await made.worker.close()
        await made.deliveries.close()
        await made.poster.close()
        await store.close()

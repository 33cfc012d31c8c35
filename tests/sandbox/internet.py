"""A made-up internet in a network namespace of its own: TCP and UDP listeners on every address, a name server.

Run as a program; one JSON command per line on stdin, one JSON answer per line on stdout; ends with its stdin.
Addresses that are not the namespace's own are routed to it ("local" routes), so that they are foreign to the gate.
"""

import asyncio
import json
import subprocess
import sys

from hearth.executor.sandbox import syscalls

PORTS = (22, 25, 80, 443, 5432, 8080)
ROUTES = ("198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
OWN = ("203.0.113.1", "198.51.100.250")
NAME_SERVER = ("10.99.0.53", 53)
NAMES = {
    "public.test": ["198.51.100.7"],
    "private.test": ["10.1.2.3"],
    "both.test": ["10.1.2.3", "198.51.100.7"],
    "listed.test": ["10.7.7.7"],
}
BLOB = bytes(range(256)) * 4096
"""1 MiB, what `GET /blob` answers."""


class World:
    """What the listeners saw."""

    def __init__(self) -> None:
        self.tcp: list[tuple[str, int]] = []
        self.udp: list[tuple[str, int]] = []
        self.questions = 0
        self.held = 0
        """Connections of `hold` that are open now."""
        self.turns = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Port 22 greets and leaves; others serve `GET /blob` (1 MiB), `GET /away` (a redirect), `flood N` (MiB),
        `echo` and `hold`.
        """
        host, port = writer.get_extra_info("sockname")[:2]
        self.tcp.append((host, port))
        try:
            if port == 22:
                writer.write(b"SSH-2.0-canary\r\n")
                return
            line = await asyncio.wait_for(reader.readline(), 20)
            if line.startswith(b"GET /blob"):
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BLOB) + BLOB)
            elif line.startswith(b"GET /away"):
                writer.write(b"HTTP/1.0 302 Found\r\nLocation: http://10.1.2.3/\r\nContent-Length: 0\r\n\r\n")
            elif line.startswith(b"GET "):
                body = json.dumps({"address": host, "port": port}).encode()
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            elif line.startswith(b"flood "):
                for _ in range(int(line.split()[1])):  # MiB
                    writer.write(BLOB)
                    await writer.drain()
            elif line.startswith(b"echo"):
                while data := await reader.read(65_536):
                    writer.write(data)
                    await writer.drain()
            elif line.startswith(b"hold"):
                self.held += 1
                try:
                    await asyncio.wait_for(reader.read(), 30)
                finally:
                    self.held -= 1
            await writer.drain()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    def addresses(self, name: str) -> list[str] | None:
        """`turning.test` is public at the first question and private from then on."""
        if name == "turning.test":
            self.turns += 1
            return ["198.51.100.7"] if self.turns == 1 else ["10.1.2.3"]
        return NAMES.get(name)


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, world: World) -> None:
        self.world = world

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.world.questions += 1
        labels, position = [], 12
        while data[position]:
            labels.append(data[position + 1 : position + 1 + data[position]].decode())
            position += 1 + data[position]
        kind = int.from_bytes(data[position + 1 : position + 3], "big")
        question = data[12 : position + 5]
        found = self.world.addresses(".".join(labels)) if kind == 1 else None
        body = b"".join(
            b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + bytes(map(int, item.split(".")))
            for item in found or ()
        )
        code = 0 if found is not None else 3
        head = data[:2] + bytes((0x81, 0x80 | code)) + b"\0\1" + len(found or ()).to_bytes(2, "big") + b"\0\0\0\0"
        self.transport.sendto(head + question + body, addr)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, world: World, port: int) -> None:
        self.world, self.port = world, port

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.world.udp.append((addr[0], self.port))


async def main() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.loopback_up()
    for route in ROUTES:
        subprocess.run(["ip", "route", "add", "local", route, "dev", "lo"], check=True)
    for address in OWN:
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    world = World()
    loop = asyncio.get_running_loop()
    for port in PORTS:
        await asyncio.start_server(world.serve, "0.0.0.0", port, backlog=512)
    await loop.create_datagram_endpoint(lambda: NameServer(world), local_addr=NAME_SERVER)
    await loop.create_datagram_endpoint(lambda: Datagrams(world, 9999), local_addr=("0.0.0.0", 9999))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(json.dumps("ready"), flush=True)
    while line := await reader.readline():
        if json.loads(line) == "held":
            print(json.dumps(world.held), flush=True)
        else:
            print(json.dumps({"tcp": world.tcp, "udp": world.udp, "questions": world.questions}), flush=True)
            world.tcp, world.udp, world.questions, world.turns = [], [], 0, 0


if __name__ == "__main__":
    asyncio.run(main())

"""What untrusted code tries on the network: the cases of `probe.py` that it looks for here. Runs as that does."""

import json
import os
import socket
import struct
import time

from probe import seen


def connects(args):
    """For each [host, port]: what a TCP connect and one exchange brought, and how long it took."""
    found = {}
    for host, port in args["targets"]:
        started = time.monotonic()

        def attempt():
            with socket.create_connection((host, port), args.get("timeout", 5)) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return client.recv(4096).decode(errors="replace") or "closed"

        result = seen(attempt)
        found[f"{host} {port}"] = [result, round(time.monotonic() - started, 3)]
    return found


def datagrams(args):
    found = {}
    for host, port in args["targets"]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def attempt():
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(1)
                client.connect((host, port))
                client.send(b"canary")
                return client.recv(100).decode()

        found[f"{host} {port}"] = seen(attempt)
    return found


def resolves(args):
    def lookup(name):
        started = time.monotonic()
        addresses = sorted({item[4][0] for item in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
        return [addresses, round(time.monotonic() - started, 3)]

    return {name: seen(lambda: lookup(name)) for name in args["names"]}


def download(args):
    """One GET by host name, followed through redirects; the body's length and digest."""
    import hashlib
    import urllib.request

    def get():
        with urllib.request.urlopen(args["url"], timeout=10) as answer:
            data = answer.read()
            return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    return {"got": seen(get)}


def many_connections(args):
    """Open connections without end; how many answer to a byte sent through them."""
    opened = []
    for _ in range(args["count"]):
        client = socket.socket()
        client.settimeout(5)
        try:
            client.connect(tuple(args["target"]))
            client.sendall(b"echo\nx")
            opened.append(client)
        except OSError:
            client.close()
    alive = 0
    for client in opened:
        try:
            alive += client.recv(1) == b"x"
        except OSError:
            pass
    return {"alive": alive}


def transfer(args):
    """Ask for many MiB at once and count what comes."""
    began = time.monotonic()
    with socket.create_connection(tuple(args["target"]), 30) as client:
        client.sendall(b"flood %d\n" % args["mib"])
        buffer, total = bytearray(1 << 20), 0
        while size := client.recv_into(buffer):
            total += size
    return {"bytes": total, "seconds": round(time.monotonic() - began, 2)}


def slow_loris(args):
    """Hold as many connections as there are, each with a request that never ends, one byte at a time."""
    kept = []
    for _ in range(args["count"]):
        client = socket.socket()
        client.settimeout(5)
        try:
            client.connect(tuple(args["target"]))
            client.sendall(b"G")
            kept.append(client)
        except OSError:
            client.close()
    print(json.dumps({"held": len(kept)}), flush=True)
    for _ in range(args["rounds"]):
        time.sleep(0.1)
        for client in kept:
            try:
                client.sendall(b"E")
            except OSError:
                pass
    return {"held": len(kept)}


def greetings(args):
    """Connect again and again to a server that speaks first and leaves: what it said each time."""
    heard = set()
    for _ in range(args["count"]):
        with socket.create_connection(tuple(args["target"]), 5) as client:
            text = b""
            while part := client.recv(100):
                text += part
            heard.add(text.decode())
    return sorted(heard)


def many_questions(args):
    """Ask as fast as possible; how many questions were answered with an address."""
    answered = refused = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 53))
        client.settimeout(0.5)
        question = b"\x06public\x04test\x00\x00\x01\x00\x01"
        for start in range(0, args["count"], 20):
            for number in range(start, start + 20):
                client.send(struct.pack(">HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + question)
            for _ in range(20):
                try:
                    data = client.recv(512)
                except OSError:
                    break
                answered += data[6:8] == b"\0\1"
                refused += data[3] & 15 == 5
    return {"answered": answered, "refused": refused}


def half_close(args):
    """Send 1 MiB, end our side, read the echo to its end."""
    with socket.create_connection(tuple(args["target"]), 10) as client:
        data = os.urandom(1 << 20)
        import threading

        def send():
            client.sendall(b"echo\n" + data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = b""
        while part := client.recv(65536):
            got += part
        sender.join()
        return {"equal": got == data, "length": len(got)}

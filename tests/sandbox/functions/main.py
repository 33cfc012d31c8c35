"""The probe deployment for Python: one function that tries what the request's body says (`{"case", "args"}`)."""

import ctypes
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import probe

TOKEN = os.urandom(8).hex()
"""Tells instances apart."""


def main(context):
    asked = context.req.body_json if context.req.body_text else {"case": "who"}
    case, args = asked["case"], asked.get("args", {})
    if case in HERE:
        return HERE[case](context, args)
    return context.res.json({"got": probe.find(case)(args)})


def who(context, args):
    return context.res.json({"got": {"instance": TOKEN, "environment": dict(os.environ), "pid": os.getpid()}})


def wait(context, args):
    context.log("begun")
    time.sleep(args["seconds"])
    return context.res.json({"got": TOKEN})


def background(context, args):
    """Answer, and go on computing."""

    def compute():
        while True:
            sum(range(1000))

    threading.Thread(target=compute, daemon=True).start()
    return context.res.json({"got": TOKEN})


def daemons(context, args):
    """Start what ignores signals, and leave it behind."""
    command = "trap '' TERM INT HUP; exec setsid sh -c 'while :; do :; done'"
    for _ in range(3):
        subprocess.Popen(["/bin/sh", "-c", command], start_new_session=True)
    if args.get("stay"):
        time.sleep(args["stay"])
    return context.res.json({"got": TOKEN})


def die(context, args):
    context.log("begun")
    ctypes.string_at(0)


def swallow(context, args):
    """Allocate without end, in this process or a child (bounded)."""
    if args.get("child") and (pid := os.fork()):
        os.waitpid(pid, 0)
        time.sleep(20)
    kept = [os.urandom(1 << 20) for _ in range(args["bound"])]
    return context.res.json({"got": len(kept)})


def output(context, args):
    """Write to the process's own output, past the platform's logging."""
    piece = {"bytes": b"x" * 1023 + b"\n", "line": b"x" * 1024, "odd": b"\xff\x00\x1b[31m\xc3\x28\r\n"}[args["kind"]]
    block = piece * (65_536 // len(piece))
    for _ in range(args["size"] // len(block)):
        os.write(args.get("to", 1), block)
    for number in range(args.get("logs", 0)):
        context.log(f"line {number}\0\x07")
    return context.res.json({"got": TOKEN})


def answer(context, args):
    """A response that breaks the rules."""
    if args["kind"] == "large":
        return context.res.binary(b"z" * args["size"])
    if args["kind"] == "headers":
        return context.res.text("many", 200, {f"x-{number}": "v" for number in range(10_000)})
    if args["kind"] == "injection":
        return context.res.text("split", 200, {"x-a": "b\r\nset-cookie: c=d", "x-e\r\nx-f": "g"})
    return context.res.text("short", 200, {"content-length": "1000"})


def control(context, args):
    """Misuse the descriptor that leads to the server."""
    fd = next(number for number in range(3, 10) if is_socket(number))
    if args["kind"] == "junk":
        os.write(fd, os.urandom(4096).replace(b"\0", b"x"))
    elif args["kind"] == "half":
        os.write(fd, b"\0\0\0")
        os._exit(3)
    elif args["kind"] == "large":
        os.write(fd, (100 << 20).to_bytes(4, "big"))
        for _ in range(1_600):
            os.write(fd, bytes(65_536))
    elif args["kind"] == "other":
        head = json.dumps({"type": "response", "id": 4_711, "status": 200, "headers": {}, "more": False}).encode()
        os.write(fd, (4 + len(head)).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head)
    elif args["kind"] == "descriptors":
        with socket.socket(fileno=os.dup(fd)) as link, open("/dev/null", "rb") as null:
            socket.send_fds(link, [b"x" * 8], [null.fileno()] * 50)
    time.sleep(5)
    return context.res.json({"got": TOKEN})


def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


def api(context, args):
    """Call the platform as anybody would, with the headers asked for; `own` = with this execution's key."""
    found = {}
    for name, (method, path, headers) in args["calls"].items():
        base = os.environ["APPWRITE_FUNCTION_API_ENDPOINT"]
        sent = {
            key: context.req.headers["x-appwrite-key"] if value == "own" else value for key, value in headers.items()
        }
        request = urllib.request.Request(base + path, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                found[name] = [reply.status, reply.read(300).decode(errors="replace")]
        except urllib.error.HTTPError as refusal:
            found[name] = [refusal.code, refusal.read(300).decode(errors="replace")]
        except OSError as problem:
            found[name] = [0, str(problem)]
    return context.res.json({"got": found, "key": context.req.headers.get("x-appwrite-key", "")})


HERE = {
    "who": who,
    "wait": wait,
    "background": background,
    "daemons": daemons,
    "die": die,
    "swallow": swallow,
    "output": output,
    "answer": answer,
    "control": control,
    "api": api,
}

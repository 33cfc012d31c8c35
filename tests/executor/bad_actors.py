"""Shims that misbehave, by name. Each is a runtime of its own: a Python program instead of the real shim."""

from hearth.runtimes.packs import Level, Pack

_TALK = """
import json, os, sys, time
def frame(header, body=b""):
    head = json.dumps(header).encode()
    return (4 + len(head) + len(body)).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head + body
def send(header, body=b""):
    data = memoryview(frame(header, body))
    while data: data = data[os.write(3, data):]
def read(count):
    data = b""
    while len(data) < count:
        piece = os.read(3, count - len(data))
        if not piece: os._exit(0)
        data += piece
    return data
def receive():
    size = int.from_bytes(read(4), "big")
    data = read(size)
    return json.loads(data[4:4 + int.from_bytes(data[:4], "big")])
def ready(): send({"type": "ready", "pid": os.getpid(), "version": "0"})
def load(concurrency=1):
    ready(); receive(); send({"type": "loaded", "concurrency": concurrency})
def answer(id, headers={}, body=b"", more=False):
    send({"type": "response", "id": id, "status": 200, "headers": headers, "more": more}, body)
def sleep():
    while True: time.sleep(100)
"""

_PROGRAMS = {
    "never-reports": "sleep()",
    "dies-at-once": "print('no such library', flush=True); os._exit(7)",
    "never-loads": "ready(); print('still thinking', flush=True); sleep()",
    "dies-while-loading": "ready(); receive(); print('out of luck', flush=True); os._exit(8)",
    "junk-while-loading": "ready(); receive(); os.write(3, b'junk' * 100); sleep()",
    "dies-while-busy": "load(); receive(); print('last words', flush=True); os._exit(9)",
    "dies-when-idle": "load(); request = receive(); answer(request['id']); os._exit(0)",
    "half-a-frame": """
load(); receive()
os.write(3, frame({'type': 'log', 'id': 1, 'stream': 'log'}, b'x')[:20])
os._exit(3)""",
    "half-a-frame-and-waits": "load(); receive(); os.write(3, b'\\0\\0'); sleep()",
    "junk": "load(); receive(); os.write(3, os.urandom(1000).replace(b'\\0', b'x')); sleep()",
    "huge-frame": """
load(); receive(); os.write(3, (100 * 2**20).to_bytes(4, 'big'))
while True: os.write(3, bytes(65536))""",
    "reply-to-another": "load(); request = receive(); answer(request['id'] + 1); sleep()",
    "replies-twice": "load(); request = receive(); answer(request['id'], more=True); answer(request['id']); sleep()",
    "body-first": "load(); request = receive(); send({'type': 'body', 'id': request['id'], 'more': False}); sleep()",
    "says-ready-twice": "load(); receive(); ready(); sleep()",
    "lets-go": "load(); receive(); os.close(3); sleep()",
    "endless-body": """
load(); request = receive(); answer(request['id'], more=True)
while True: send({'type': 'body', 'id': request['id'], 'more': True}, bytes(2**20))""",
    "splits-headers": r"""
load(); request = receive()
answer(request['id'], {'x-a': 'b\r\nx-c: d', 'x-e\n': 'f', 'ok': 'g', 'x-open-runtimes-log-id': 'h'}); sleep()""",
    "floods": r"""
load(); request = receive()
for at in range(1024): os.write(1, b'\xff\0x' * 87381 + b'\n')
send({'type': 'log', 'id': request['id'], 'stream': 'log'}, b'the end\n'); answer(request['id']); sleep()""",
    "long-line": """
load(); request = receive()
for at in range(100): send({'type': 'log', 'id': request['id'], 'stream': 'error'}, b'z' * 2**20)
answer(request['id']); sleep()""",
    "slow": """
load()
while True:
    request = receive(); time.sleep(0.1); answer(request['id'], body=b'%d' % os.getpid())""",
}

BAD_PACKS = tuple(
    Pack(
        f"bad-{name}",
        "bad",
        "0",
        Level.EXPERIMENTAL,
        "test",
        "/usr/bin/python3",
        ("/usr/bin/python3", "-I", "-S", "-c", f"{_TALK}\n{program}"),
        ("/usr/bin", "/bin"),
    )
    for name, program in _PROGRAMS.items()
)

import ctypes
import hashlib
import os
import subprocess
import sys
import time

MULTIPART = '--12345\r\nContent-Disposition: form-data; name="one"\r\n\r\n1\r\n--12345--\r\n'

counted = 0


def headers(context):
    given = context.req.headers
    return context.res.text(
        "OK",
        200,
        {
            "first-header": "first-value",
            "Second-Header": given.get("x-open-runtimes-custom-in-header", "missing"),
            "cookie": given.get("cookie", "missing"),
            "x-open-runtimes-custom-out-header": "third-value",
        },
    )


closed = 0


def stream(context):
    def pieces():
        context.log("streaming")
        yield "first,"
        time.sleep(0.001)
        yield b"second,"
        yield bytearray([226, 130, 172])

    return context.res.stream(pieces(), 202, {"X-Kind": "pieces", "content-type": "text/event-stream"})


def stream_function(context):
    def pieces():
        yield "called"

    return context.res.stream(pieces)


def stream_itself():
    yield "it"
    yield "self"


def stream_async(context):
    async def pieces():
        yield "from a "
        yield "plain handler"

    return context.res.stream(pieces())


def stream_throw(context):
    def pieces():
        yield "before"
        raise Exception("midway")

    return context.res.stream(pieces())


def stream_endless(context):
    def pieces():
        global closed
        try:
            while True:
                context.log("piece")
                yield b"\7" * 100000
        finally:
            closed += 1

    return context.res.stream(pieces())


def stream_stuck(context):
    def pieces():
        yield "begun"
        time.sleep(60)

    return context.res.stream(pieces())


def stream_flood(context):
    def pieces():
        yield "begun"
        for at in range(100):
            context.log(f"line {at}")
        time.sleep(60)

    return context.res.stream(pieces())


def nothing(context):
    context.res.text("built, not returned")


def twice(context):
    context.res.text("first")
    return context.res.text("second")


def log_then_throw(context):
    context.log("before the error")
    raise Exception("Error!")


def url(context):
    req = context.req
    return context.res.json(
        {
            "url": req.url,
            "port": req.port,
            "path": req.path,
            "query": req.query,
            "queryString": req.query_string,
            "scheme": req.scheme,
            "host": req.host,
        }
    )


def body(context):
    value = context.req.body
    return context.res.text(value) if isinstance(value, str) else context.res.json(value)


def environment(context):
    return context.res.json({"set": os.environ.get("CUSTOM_ENV_VAR"), "unset": os.environ.get("NOT_DEFINED_VAR")})


def logs(context):
    print("Native log")
    print("Native error", file=sys.stderr)
    context.log("Debug log")
    context.error("Error log")
    context.log("Log+With+Plus+Symbol")
    context.log(42)
    context.log(4.2)
    context.log(True)
    context.log({"objectKey": "objectValue"})
    context.log(["arrayValue"])
    context.log("a" * 9000)
    context.error("e" * 9000)
    return context.res.text("")


def spread(context):
    context.log("engine:", "open-runtimes")
    context.error("engine:", "open-runtimes")
    return context.res.text("OK")


def sleep(context):
    context.log("Timeout start.")
    time.sleep(float(context.req.body_text))
    context.log("Timeout end.")
    return context.res.text("Successful response.")


def interleave(context):
    for _ in range(5):
        print(f"native {context.req.body_text}")
        context.log(f"own {context.req.body_text}")
        time.sleep(0.001)
    return context.res.text(context.req.body_text)


def busy(context):
    context.log("Busy start.")
    while True:
        pass


def digest(context):
    return context.res.text(hashlib.md5(context.req.body_binary).hexdigest(), 200, {"x-method": context.req.method})


def leave(context):
    context.log("leaving")
    sys.exit(3)


def fall(context):
    context.log("falling")
    ctypes.string_at(0)


def child(context):
    subprocess.run(["/bin/sh", "-c", "echo from the child"], check=True)
    return context.res.text("OK")


def count(context):
    global counted
    counted += 1
    return context.res.text(str(counted))


def flood(context):
    line = "x" * 79
    for _ in range(int(context.req.body_text)):
        context.log(line)
    return context.res.text("OK")


PNG = bytes([137, 80, 78, 71, 0, 255])

ACTIONS = {
    "text": lambda c: c.res.text("Hello World 👋"),
    "json": lambda c: c.res.json({"json": True, "message": "fine"}),
    "charset": lambda c: c.res.text("ÅÆ", 200, {"content-type": "text/plain; charset=iso-8859-1"}),
    "uppercaseType": lambda c: c.res.text("ÅÆ", 200, {"Content-Type": "TEXT/PLAIN"}),
    "multipart": lambda c: c.res.text(MULTIPART, 200, {"content-type": "multipart/form-data; boundary=12345"}),
    "redirect": lambda c: c.res.redirect("https://example.com/"),
    "empty": lambda c: c.res.empty(),
    "nothing": nothing,
    "twice": twice,
    "headers": headers,
    "status": lambda c: c.res.text("FAIL", 404),
    "logThenThrow": log_then_throw,
    "method": lambda c: c.res.text(c.req.method),
    "url": url,
    "requestHeaders": lambda c: c.res.json(c.req.headers),
    "bodyText": lambda c: c.res.text(c.req.body_text),
    "bodyJson": lambda c: c.res.json(c.req.body_json),
    "bodyBinary": lambda c: c.res.binary(c.req.body_binary),
    "body": body,
    "environment": environment,
    "logs": logs,
    "spread": spread,
    "sleep": sleep,
    "interleave": interleave,
    "busy": busy,
    "send": lambda c: c.res.send(c.req.body_raw),
    "sendNumber": lambda c: c.res.send(50),
    "sendBytes": lambda c: c.res.send(PNG, 200, {"content-type": "image/png"}),
    "binary1": lambda c: c.res.binary(bytes([0, 10, 255])),
    "binary2": lambda c: c.res.binary(bytearray([0, 20, 255])),
    "binary3": lambda c: c.res.binary(memoryview(bytes([0, 30, 255]))),
    "binary4": lambda c: c.res.binary([0, 40, 255]),
    "digest": digest,
    "large": lambda c: c.res.binary(b"\x07" * int(c.req.body_text)),
    "cookies": lambda c: c.res.text("OK", 200, {"set-cookie": ["a=1; Path=/", "b=2"], "other": "header"}),
    "badHeaders": lambda c: c.res.text("OK", 200, {"x-split": "a\r\nx-injected: 1", "bad name": "b", "fine": "c"}),
    "manyHeaders": lambda c: c.res.text("OK", 200, {f"x-{at}": "v" for at in range(10000)}),
    "badStatus": lambda c: c.res.text("OK", 20000),
    "notAResult": lambda c: "a string",
    "exit": leave,
    "signal": fall,
    "child": child,
    "count": count,
    "flood": flood,
    "stream": stream,
    "streamFunction": stream_function,
    "streamItself": lambda c: stream_itself(),
    "streamPlain": lambda c: c.res.stream(["a", "b", "c"]),
    "streamText": lambda c: c.res.stream("whole"),
    "streamAsync": stream_async,
    "streamThrow": stream_throw,
    "streamNothing": lambda c: c.res.stream(5),
    "streamEndless": stream_endless,
    "streamStuck": stream_stuck,
    "closed": lambda c: c.res.text(str(closed)),
    "streamFlood": stream_flood,
    "pid": lambda c: c.res.text(str(os.getpid())),
}


def main(context):
    action = ACTIONS.get(context.req.headers.get("x-action"))
    if action is None:
        raise Exception("Unknown action")
    return action(context)

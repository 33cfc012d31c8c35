import asyncio

from . import conformance


async def sleep(context):
    context.log("Timeout start.")
    await asyncio.sleep(float(context.req.body_text))
    context.log("Timeout end.")
    return context.res.text("Successful response.")


async def interleave(context):
    for _ in range(5):
        print(f"native {context.req.body_text}")
        context.log(f"own {context.req.body_text}")
        await asyncio.sleep(0.001)
    return context.res.text(context.req.body_text)


def stream(context):
    async def pieces():
        context.log("streaming")
        yield "first,"
        await asyncio.sleep(0.001)
        yield b"second,"
        yield bytearray([226, 130, 172])

    return context.res.stream(pieces(), 202, {"X-Kind": "pieces", "content-type": "text/event-stream"})


async def stream_itself():
    yield "it"
    yield "self"


def stream_endless(context):
    async def pieces():
        try:
            while True:
                context.log("piece")
                yield b"\7" * 100000
        finally:
            conformance.closed += 1

    return context.res.stream(pieces())


def stream_stuck(context):
    async def pieces():
        yield "begun"
        try:
            await asyncio.Event().wait()
        finally:
            conformance.closed += 1

    return context.res.stream(pieces())


async def main(context):
    action = context.req.headers.get("x-action")
    if action == "sleep":
        return await sleep(context)
    if action == "interleave":
        return await interleave(context)
    if action == "stream":
        return stream(context)
    if action == "streamItself":
        return stream_itself()
    if action == "streamEndless":
        return stream_endless(context)
    if action == "streamStuck":
        return stream_stuck(context)
    return conformance.main(context)

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


async def main(context):
    action = context.req.headers.get("x-action")
    if action == "sleep":
        return await sleep(context)
    if action == "interleave":
        return await interleave(context)
    return conformance.main(context)

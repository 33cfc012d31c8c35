"""The header `Idempotency-Key` (IETF draft idempotency-key-header): the same request gets the same answer again."""

import base64
from collections.abc import Awaitable, Callable

import msgspec

from hearth.api.call import Call
from hearth.api.messages import Answer
from hearth.model.refusals import Refusal

HEADER = b"idempotency-key"
KEY_MAX_CHARS = 255
#: Set on an answer that was given before.
REPLAYED = (b"idempotency-replayed", b"true")

#: Makes the answer, given the id of what it is to make.
Run = Callable[[str], Awaitable[Answer]]
#: Makes the answer of an earlier request from what it has left in the database; None if it has left nothing.
Recall = Callable[[str], Awaitable[Answer | None]]


async def once(call: Call, run: Run, recall: Recall) -> Answer:
    """The answer to a call that makes something: made once for each `Idempotency-Key`, or simply made without one.

    Raises what `hearth.control.idempotency.Idempotency.once` raises, and `general_argument_invalid` for a bad key.
    """
    key = call.request.header(HEADER)
    if not key:
        return await run("")
    if len(key) > KEY_MAX_CHARS or not key.isascii() or not key.isprintable():
        raise Refusal(
            "general_argument_invalid",
            f"Invalid `Idempotency-Key` header: 1 to {KEY_MAX_CHARS} printable ASCII characters, such as a UUID.",
        )

    async def work(id: str) -> str:
        return pack(await run(id))

    async def recalled(id: str) -> str | None:
        answer = await recall(id)
        return None if answer is None else pack(answer)

    request = {"path": call.path, "accept": call.request.header(b"accept"), **call.arguments}
    text, is_replayed = await call.control.idempotency.once(
        call.project_id, call.actor, f"{call.route.name} {call.request.scope['path']}", key, request,
        work=work, recall=recalled,
    )  # fmt: skip
    answer = unpack(text)
    if is_replayed:
        answer.headers.append(REPLAYED)
    return answer


def pack(answer: Answer) -> str:
    """An answer as text."""
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers]
    body = base64.b64encode(answer.body).decode()
    return msgspec.json.encode([answer.status, answer.content_type.decode("latin-1"), headers, body]).decode()


def unpack(text: str) -> Answer:
    """What `pack` packed."""
    status, content_type, headers, body = msgspec.json.decode(text)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return Answer(status, base64.b64decode(body), content_type.encode("latin-1"), raw)

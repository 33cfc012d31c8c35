"""Events that callers publish; what comes of them is in docs/events.md."""

from hearth.api.call import Call
from hearth.api.hosting_grammar import Payload
from hearth.api.idempotency import once
from hearth.api.messages import Answer
from hearth.api.resources.common import PROJECT_GROUPS
from hearth.api.resources.scoped import body
from hearth.api.routes import Body, Route
from hearth.api.validators import Id, Text
from hearth.model.events import variants

EVENT_MAX_CHARS = 512
PAYLOAD_MAX_BYTES = 1024 * 1024


async def publish(call: Call) -> Answer:
    event, payload = call.arguments["event"], call.arguments["payload"]

    async def run(_: str) -> Answer:
        await call.control.events.publish(
            call.project_id, event=event, payload=payload, user_id=call.arguments["user_id"] or ""
        )
        return call.reply({"event": event, "events": variants(event)})

    async def recall(_: str) -> Answer | None:
        return None  # it makes nothing that could be looked up: after a kill half-way it is published again

    return await once(call, run, recall)


ROUTES = (
    Route(
        name="events.publish",
        method="POST",
        path="/v1/events",
        handler=publish,
        summary="Say that something happened outside this server: webhooks, realtime and functions hear of it.",
        description="For what this server does not do itself, such as users or documents kept elsewhere. "
        "With a header `Idempotency-Key` it may be sent again within 24 hours and is published once.",
        refusals=("idempotency_key_reused", "idempotency_request_in_progress"),
        scopes=("events.write",),
        params=(
            body(
                "event",
                Text(1, EVENT_MAX_CHARS),
                "Event with ids and an action: `users.5f3a.create`.",
                "event",
                required=True,
            ),
            body("payload", Payload(PAYLOAD_MAX_BYTES), "The resource it happened to.", "payload", required=True),
            body("userId", Id(), "The user who did it.", "user_id"),
        ),
        success=202,
        model="publishedEvent",
        groups=PROJECT_GROUPS,
        body=Body.FIELDS,
    ),
)

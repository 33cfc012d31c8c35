"""Events that callers publish; what comes of them is in docs/events.md."""

from typing import Any

from hearth.api.call import Call
from hearth.api.hosting_grammar import Payload
from hearth.api.resources.common import PROJECT_GROUPS
from hearth.api.resources.scoped import body
from hearth.api.routes import Body, Route
from hearth.api.validators import Id, Text
from hearth.model.events import variants

EVENT_MAX_CHARS = 512
PAYLOAD_MAX_BYTES = 1024 * 1024


async def publish(call: Call) -> Any:
    event, payload = call.arguments["event"], call.arguments["payload"]
    await call.control.events.publish(
        call.project_id, event=event, payload=payload, user_id=call.arguments["user_id"] or ""
    )
    return {"event": event, "events": variants(event)}


ROUTES = (
    Route(
        name="events.publish",
        method="POST",
        path="/v1/events",
        handler=publish,
        summary="Say that something happened outside this server: webhooks, realtime and functions hear of it.",
        description="For what this server does not do itself, such as users or documents kept elsewhere.",
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

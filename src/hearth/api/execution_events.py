"""A synchronous execution as it happens, for clients that ask for events (decision 17): head, body, record."""

import base64
import codecs
from collections.abc import Callable
from typing import Any

from hearth.api.server_sent import event
from hearth.control.streams import StreamBroken
from hearth.control.views import ExecutionView
from hearth.model.resources import Execution


class ExecutionEvents:
    """An async iterator over the events of one execution: `response`, any number of `body`, `end`.

    `shown` gives the record as the caller may see it.
    """

    def __init__(self, view: ExecutionView, shown: Callable[[Execution], dict[str, Any]]) -> None:
        self._view = view
        self._shown = shown
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._steps = self._run()

    def __aiter__(self) -> "ExecutionEvents":
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._steps)

    async def aclose(self) -> None:
        """Nobody reads on: a function that still streams is stopped."""
        await self._steps.aclose()
        if self._view.stream is not None:
            await self._view.stream.aclose()

    async def _run(self) -> Any:
        view, stream = self._view, self._view.stream
        head = {
            "executionId": view.execution.id,
            "statusCode": view.execution.response_status_code if stream is None else stream.status_code,
            "headers": [{"name": name, "value": value} for name, value in view.response_headers],
        }
        yield event("response", head)
        final: Execution | None = view.execution
        if stream is None:
            if view.response_body:
                yield event("body", self._piece(view.response_body, is_last=True))
        else:
            try:
                async for piece in stream:
                    data = self._piece(piece)
                    if data is not None:
                        yield event("body", data)
            except StreamBroken:
                pass  # the record says what happened
            rest = self._piece(b"", is_last=True)
            if rest is not None:
                yield event("body", rest)
            final = stream.final
        yield event("end", None if final is None else self._shown(final))

    def _piece(self, data: bytes, *, is_last: bool = False) -> dict[str, str] | None:
        """`text` where it is UTF-8 (a character that was cut waits for its rest), else `base64`; None for nothing."""
        pending = self._text.getstate()[0]
        try:
            text = self._text.decode(data, is_last)
        except UnicodeDecodeError:
            self._text.reset()
            return {"base64": base64.b64encode(pending + data).decode()}
        return {"text": text} if text else None

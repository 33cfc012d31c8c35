"""The hot lane's document of a created execution is the one that every other way makes."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.api import wire
from hearth.api.created import document, figure_lines
from hearth.control.invocations import ShownHeaders
from hearth.control.views import ExecutionView
from hearth.model.actor import Actor, ActorKind
from hearth.model.headers import KnownPairs
from hearth.model.resources import Execution, Header
from hearth.model.statuses import ExecutionStatus, Trigger

KEY = Actor(ActorKind.KEY, frozenset())
MOMENTS = st.integers(min_value=0, max_value=10**12).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.sampled_from(["content-type", "content-length", "x-own", "x-open-runtimes-log-id", "%d"])
PAIRS = st.lists(st.tuples(NAMES, TEXTS), max_size=3).map(tuple)
SECONDS = st.floats(min_value=0, max_value=1e6)


@st.composite
def views(draw: st.DrawFn) -> tuple[ExecutionView, str]:
    def pairs() -> tuple[Header, ...]:
        drawn = draw(PAIRS)
        return KnownPairs(drawn) if draw(st.booleans()) else drawn

    text = draw(TEXTS)
    execution = Execution(
        "e1",
        "p1",
        draw(TEXTS),
        "d1",
        draw(MOMENTS),
        draw(MOMENTS),
        draw(st.sampled_from(Trigger)),
        draw(st.sampled_from(ExecutionStatus)),
        "POST",
        draw(TEXTS),
        request_headers=pairs(),
        response_status_code=draw(st.integers(0, 999)),
        response_headers=pairs(),
        logs=draw(TEXTS),
        errors=draw(TEXTS),
        duration_s=draw(SECONDS),
        permissions=tuple(draw(st.lists(TEXTS, max_size=2))),
        scheduled_at=draw(st.none() | MOMENTS),
        queued_s=draw(st.none() | SECONDS),
        is_cold=draw(st.booleans()),
        cpu_s=draw(st.none() | SECONDS),
        peak_memory_bytes=draw(st.none() | st.integers(0, 2**40)),
    )
    is_stored = draw(st.booleans())
    size = draw(st.none() | st.just(len(text.encode())))
    return ExecutionView(execution, text.encode(), () if is_stored else ShownHeaders("e1", pairs(), size)), text


@settings(max_examples=300, deadline=None, database=None)
@given(views())
def test_the_document_is_the_same(made: tuple[ExecutionView, str]) -> None:
    view, text = made
    ordinary = json.dumps(wire.created_execution(view, KEY, text))
    assert list(json.loads(document(view, text)).items()) == list(json.loads(ordinary).items())
    figures = "".join(f"{name}: {value}\r\n" for name, value in wire.figures(view, KEY).items())
    assert figure_lines(view.execution) == figures.encode()

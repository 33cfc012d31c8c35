"""The grammar of events and the names of one occurrence (contract: functions-api 14)."""

import pytest

from hearth.control.events import EventBus
from hearth.data import load
from hearth.model.events import Named, Occurrence, Published, is_pattern, parse, variants
from hearth.model.refusals import Refusal


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (
            "users.U.sessions.S.create",
            "users.U.sessions.S.create users.*.sessions.*.create users.U.sessions.*.create users.*.sessions.S.create "
            "users.U.sessions.S users.*.sessions.* users.U.sessions.* users.*.sessions.S users.U users.*",
        ),
        (
            "users.U.update.email",
            "users.U.update.email users.*.update.email users.U.update users.*.update users.U users.*",
        ),
        ("functions.F.create", "functions.F.create functions.*.create functions.F functions.*"),
        (
            "functions.my.func.deployments.D.update",
            "functions.my.func.deployments.D.update functions.*.deployments.*.update "
            "functions.my.func.deployments.*.update functions.*.deployments.D.update functions.my.func.deployments.D "
            "functions.*.deployments.* functions.my.func.deployments.* functions.*.deployments.D functions.my.func "
            "functions.*",
        ),
        ("variables.V.delete", "variables.V.delete variables.*.delete variables.V variables.*"),
    ],
)
def test_an_occurrence_is_known_under_every_name_itself_first(event: str, names: str) -> None:
    assert variants(event) == tuple(names.split())


def test_three_ids_have_every_combination_and_both_vocabularies_of_databases() -> None:
    names = variants("databases.D.collections.C.documents.X.create")
    full = [name for name in names if name.endswith(".create")]
    assert names[0] == "databases.D.collections.C.documents.X.create"
    assert len(full) == len(set(full)) == 16
    assert {"databases.*.tables.C.rows.*.create", "databases.D.collections.*.documents.X.create"} <= set(full)
    assert names[-1] == "databases.*"


def test_every_pattern_of_the_table_is_a_name_of_its_concrete_event() -> None:
    """Whatever one may subscribe to is reached by some occurrence."""
    for row in load("events.json")["patterns"]:
        pattern = row["pattern"]
        concrete = pattern.replace("*", "id-1")
        assert is_pattern(pattern, functions=True), pattern
        assert parse(concrete) is not None, concrete
        assert variants(concrete)[0] == concrete
        assert pattern in variants(concrete)


@pytest.mark.parametrize(
    "text", ["users", "users.*.nothing", "users.*.update.nothing", "nothing.*.create", "users.!.create", "$model.x", ""]
)
def test_what_is_not_in_the_table_is_no_pattern(text: str) -> None:
    assert not is_pattern(text, functions=True)


def test_functions_may_not_listen_to_functions() -> None:
    assert is_pattern("functions.*.create", functions=True)
    assert not is_pattern("functions.*.create", functions=False)


def test_an_event_is_taken_apart_with_ids_that_hold_periods() -> None:
    assert parse("users.a.b.update.email") == Named((("users", "a.b"),), ("update", "email"))
    assert parse("users.U") == Named((("users", "U"),))
    assert parse("users.U.update.nothing") == Named((("users", "U.update.nothing"),))
    assert parse("nothing.U.update") is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    "event", ["users.*.create", "users.U", "functions.F.create", "nothing.U.create", "users.U.explode", "users..create"]
)
async def test_what_may_not_be_published_is_refused(event: str) -> None:
    bus = EventBus()
    seen: list[Occurrence] = []
    bus.subscribe(seen.append)
    with pytest.raises(Refusal, match="general_argument_invalid"):
        await bus.publish("p", event=event, payload={})
    assert seen == []


@pytest.mark.anyio
async def test_a_published_event_reaches_every_listener_even_after_one_that_fails() -> None:
    bus = EventBus()
    seen: list[Occurrence] = []

    def failing(occurrence: Occurrence) -> None:
        raise RuntimeError("listener")

    bus.subscribe(failing)
    bus.subscribe(seen.append)
    await bus.publish("p", event="users.U.create", payload={"a": 1}, user_id="U")
    assert seen == [Occurrence("p", "users.U.create", Published({"a": 1}), "U")]


def test_progress_is_for_watchers_only() -> None:
    bus = EventBus()
    listened: list[str] = []
    watched: list[str] = []
    bus.subscribe(lambda occurrence: listened.append(occurrence.event))
    bus.watch(lambda occurrence: watched.append(occurrence.event), lambda project_id: project_id == "p")
    bus.progress("p", "functions.F.deployments.D.update", object())
    bus.emit("p", "functions.F.create", object())
    assert listened == ["functions.F.create"]
    assert watched == ["functions.F.deployments.D.update", "functions.F.create"]
    assert bus.is_watched("p")
    assert not bus.is_watched("q")

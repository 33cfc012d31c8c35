"""List calls: filters, order, cursors, counts and search, against their evaluation in plain Python."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from hearth.model import attributes
from hearth.model.queries import INTERNAL, Filter, Kind, ListQuery, Order, parse_queries
from hearth.model.refusals import Refusal
from hearth.ports import CursorNotFound, Page
from hearth.store import SqlStore
from hearth.store.sql.pages import ordering
from tests.store.conftest import opened
from tests.store.evaluation import in_order, matches
from tests.store.samples import NOW, FakeClock, deployment, execution, function, key, variable

pytestmark = pytest.mark.anyio

#: Few and awkward values, so that filters meet rows: wildcards, quotes, case, the empty text, code point order.
TEXTS = ["", "a", "A", "ab", "b%", "%", "a_", "_", "ä", "Ä", "\\", "'", '"x"', "é\U0001f600", "Z", "a b"]
NUMBERS = [-1, 0, 1, 15, 2**40]
FLOATS = [0.0, 0.5, 1.0, 2.5]
MOMENTS = [NOW + timedelta(milliseconds=step) for step in (-1, 0, 1, 86_400_000)]
LISTS = [(), ("a",), ("a", "b"), ("ab",), ('"a"',), ("a,b",), ("",), ("ä",)]

VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.STRING: st.sampled_from(TEXTS),
    Kind.INTEGER: st.sampled_from(NUMBERS),
    Kind.FLOAT: st.sampled_from(FLOATS),
    Kind.BOOLEAN: st.booleans(),
    Kind.DATETIME: st.sampled_from(MOMENTS),
    Kind.STRINGS: st.sampled_from(["a", "b", "ab", '"a"', "a,b", "", "ä", "["]),
}
COLLECTIONS: dict[str, Mapping[str, Kind]] = {
    "functions": {**INTERNAL, **attributes.FUNCTIONS},
    "deployments": {**INTERNAL, **attributes.DEPLOYMENTS},
    "executions": {**INTERNAL, **attributes.EXECUTIONS},
    "keys": {**INTERNAL, **attributes.KEYS},
}
ROWS = 24


def _some(values: list[Any], number: int, step: int) -> Any:
    return values[number * step % len(values)]


FUNCTIONS = [
    function(
        f"f{number:02}" if number % 2 else f"F{number:02}",
        created_at=_some(MOMENTS, number, 1),
        name=_some(TEXTS, number, 3),
        enabled=number % 2 == 0,
        runtime=_some(TEXTS, number, 5),
        deployment_id=_some(TEXTS, number, 7),
        schedule=_some(TEXTS, number, 1),
        timeout_s=_some(NUMBERS, number, 1),
    )
    for number in range(ROWS)
]
DEPLOYMENTS = [
    deployment(
        f"d{number:02}",
        updated_at=_some(MOMENTS, number, 1),
        type=_some(TEXTS, number, 3),
        activate=number % 3 == 0,
        source_size_bytes=_some(NUMBERS[1:], number, 1),
        build_size_bytes=_some(NUMBERS[1:], number, 3),
    )
    for number in range(ROWS)
]
EXECUTIONS = [
    execution(
        f"e{number:02}",
        duration_s=_some(FLOATS, number, 1),
        response_status_code=_some(NUMBERS[1:], number, 1),
        request_path=_some(TEXTS, number, 3),
    )
    for number in range(ROWS)
]
KEYS = [
    key(
        f"k{number:02}",
        name=_some(TEXTS, number, 1),
        expires_at=None if number % 3 == 0 else _some(MOMENTS, number, 1),
        scopes=_some(LISTS, number, 1),
        sdks=_some(LISTS, number, 3),
    )
    for number in range(ROWS)
]


class Listed(NamedTuple):
    """A store whose project `queries` holds the rows above, and these as they are shown, by collection."""

    store: SqlStore
    rows: Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
async def listed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Listed]:
    """Written and read once for all examples, which only read."""
    database = "" if request.param == "sqlite" else request.getfixturevalue("postgres_database")
    async with opened(database, tmp_path_factory.mktemp("queries"), FakeClock()) as store:
        async with store.begin("queries") as unit:
            for item in FUNCTIONS:
                await unit.functions.insert(replace(item, project_id="queries"))
            for built in DEPLOYMENTS:
                await unit.deployments.insert(replace(built, project_id="queries"))
            for run in EXECUTIONS:
                await unit.executions.insert(structs.replace(run, project_id="queries"))
            for access in KEYS:
                await unit.keys.insert(replace(access, project_id="queries", secret_hash=f"queries-{access.id}"))
        yield Listed(store, {collection: await all_rows(store, collection) for collection in COLLECTIONS})


async def fetch(store: SqlStore, collection: str, query: ListQuery) -> Page[Any]:
    async with store.view("queries") as unit:
        match collection:
            case "functions":
                return await unit.functions.list(query)
            case "deployments":
                return await unit.deployments.list("f", query)
            case "executions":
                return await unit.executions.list("f", query, None)
        return await unit.keys.list(query)


def wire_row(item: Any) -> dict[str, Any]:
    """A resource under its wire attributes."""
    names = {
        "$id": "id",
        "$createdAt": "created_at",
        "$updatedAt": "updated_at",
        "$sequence": "sequence",
        "deploymentId": "deployment_id",
        "timeout": "timeout_s",
        "installationId": "installation_id",
        "buildSize": "build_size_bytes",
        "sourceSize": "source_size_bytes",
        "buildDuration": "build_duration_s",
        "responseStatusCode": "response_status_code",
        "duration": "duration_s",
        "requestMethod": "request_method",
        "requestPath": "request_path",
        "expire": "expires_at",
        "accessedAt": "accessed_at",
    }
    row = {wire: getattr(item, name) for wire, name in names.items() if hasattr(item, name)}
    row |= {name: getattr(item, name) for admitted in COLLECTIONS.values() for name in admitted if hasattr(item, name)}
    if "sourceSize" in row:
        row["totalSize"] = item.source_size_bytes + item.build_size_bytes
    return row


async def all_rows(store: SqlStore, collection: str) -> list[dict[str, Any]]:
    page = await fetch(store, collection, ListQuery(limit=1000))
    assert len(page.items) == ROWS
    return [wire_row(item) for item in page.items]


@st.composite
def leaves(draw: st.DrawFn, admitted: Mapping[str, Kind]) -> Filter:
    attribute = draw(st.sampled_from(sorted(admitted)))
    kind = admitted[attribute]
    value = VALUES[kind]
    if attribute == "$id":
        value = st.sampled_from(["f01", "F02", "d03", "e", "k1", "", "03"])
    contain = ["contains", "containsAny", "containsAll", "notContains"]
    methods = ["isNull", "isNotNull", "exists", "notExists"]
    if kind is Kind.STRINGS:
        methods += contain
    else:
        methods += ["equal", "notEqual", "lessThan", "lessThanEqual", "greaterThan", "greaterThanEqual"]
        methods += ["between", "notBetween"]
    if kind is Kind.STRING:
        methods += [*contain, "startsWith", "notStartsWith", "endsWith", "notEndsWith"]
    method = draw(st.sampled_from(methods))
    if method in ("isNull", "isNotNull"):
        return Filter(method, attribute)
    if method in ("between", "notBetween"):
        return Filter(method, attribute, (draw(value), draw(value)))
    many = method in (*contain, "equal")
    return Filter(method, attribute, tuple(draw(st.lists(value, min_size=1, max_size=3 if many else 1))))


def filters(admitted: Mapping[str, Kind]) -> st.SearchStrategy[tuple[Filter, ...]]:
    tree = st.recursive(
        leaves(admitted),
        lambda inner: st.builds(
            lambda method, parts: Filter(method, parts=tuple(parts)),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=6,
    )
    return st.lists(tree, max_size=3).map(tuple)


def listings() -> st.SearchStrategy[tuple[str, tuple[Filter, ...]]]:
    """A collection and filters it admits."""
    return st.sampled_from(sorted(COLLECTIONS)).flatmap(
        lambda name: st.tuples(st.just(name), filters(COLLECTIONS[name]))
    )


def orderings() -> st.SearchStrategy[tuple[str, tuple[Order, ...]]]:
    """A collection and sort keys it admits."""

    def orders(name: str) -> st.SearchStrategy[tuple[Order, ...]]:
        sortable = sorted(attribute for attribute, kind in COLLECTIONS[name].items() if kind is not Kind.STRINGS)
        one = st.builds(Order, st.sampled_from(sortable), st.booleans())
        return st.lists(one, max_size=3).map(tuple)

    return st.sampled_from(sorted(COLLECTIONS)).flatmap(lambda name: st.tuples(st.just(name), orders(name)))


PROPERTY = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@PROPERTY
@given(listing=listings())
async def test_filters_select_what_their_plain_evaluation_selects(
    listed: Listed, listing: tuple[str, tuple[Filter, ...]]
) -> None:
    collection, wanted = listing
    page = await fetch(listed.store, collection, ListQuery(filters=wanted, limit=1000))
    expected = [row["$id"] for row in listed.rows[collection] if matches(wanted, row)]
    assert [item.id for item in page.items] == expected
    assert page.total == len(expected)


@pytest.mark.slow
@settings(PROPERTY, max_examples=50)
@given(
    listing=orderings(),
    place=st.integers(0, ROWS - 1),
    limit=st.integers(1, 5),
    offset=st.integers(0, 2),
)
async def test_pages_in_both_directions_are_slices_of_the_sorted_whole(
    listed: Listed, listing: tuple[str, tuple[Order, ...]], place: int, limit: int, offset: int
) -> None:
    collection, orders = listing
    query = ListQuery(orders=orders, count=False)
    whole = [row["$id"] for row in in_order(listed.rows[collection], ordering(query))]

    async def ids(**changes: Any) -> list[str]:
        return [item.id for item in (await fetch(listed.store, collection, replace(query, **changes))).items]

    assert await ids(limit=1000) == whole
    assert await ids(limit=limit, offset=place) == whole[place : place + limit]
    after = await ids(cursor=whole[place], limit=limit, offset=offset)
    assert after == whole[place + 1 :][offset : offset + limit]
    before = await ids(cursor=whole[place], cursor_before=True, limit=limit)
    assert before == whole[max(0, place - limit) : place]


@pytest.mark.slow
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("before", [False, True])
async def test_a_cursor_inside_or_outside_of_a_span_of_dates_pages_through_that_span(
    listed: Listed, descending: bool, before: bool
) -> None:
    """Bounds that a cursor implies are not asked of the database; what is shown must not change by it."""
    orders = (Order("$createdAt", descending),)
    rows = in_order(listed.rows["functions"], ordering(ListQuery(orders=orders)))
    ids = [row["$id"] for row in rows]
    dates = sorted({row["$createdAt"] for row in rows})
    low, high = dates[0], dates[-2]
    assert low < high < dates[-1]
    by_date = [[place for place, row in enumerate(rows) if row["$createdAt"] == date] for date in dates]
    places = sorted({place for same in by_date for place in (same[0], same[-1])})  # those between are no other case
    spans = [Filter("between", "$createdAt", (low, high)), Filter("between", "$createdAt", (high, low))]
    for method in ("lessThan", "lessThanEqual", "greaterThan", "greaterThanEqual", "equal", "notEqual"):
        spans += [Filter(method, "$createdAt", (low,)), Filter(method, "$createdAt", (high,))]
    for wanted in [*spans, Filter("notBetween", "$createdAt", (low, high))]:
        for place, cursor in [(place, ids[place]) for place in places]:
            query = ListQuery(filters=(wanted,), orders=orders, cursor=cursor, cursor_before=before, limit=1000)
            page = await fetch(listed.store, "functions", query)
            side = rows[:place] if before else rows[place + 1 :]
            assert [item.id for item in page.items] == [row["$id"] for row in side if matches((wanted,), row)]
            assert page.total == len([row for row in rows if matches((wanted,), row)])


async def test_the_tie_break_follows_a_leading_date_only() -> None:
    def keys(*orders: Order) -> list[tuple[str, bool]]:
        return [(order.attribute, order.descending) for order in ordering(ListQuery(orders=orders))]

    assert keys() == [("$sequence", False)]
    assert keys(Order("name", True)) == [("name", True), ("$sequence", False)]
    assert keys(Order("$createdAt", True)) == [("$createdAt", True), ("$sequence", True)]
    assert keys(Order("name", True), Order("$createdAt", True)) == [
        ("name", True),
        ("$createdAt", True),
        ("$sequence", False),
    ]
    assert keys(Order("$sequence", True), Order("name")) == [("$sequence", True)]


async def test_a_cursor_names_a_document_of_the_same_list(store: SqlStore) -> None:
    async with store.begin("q") as unit:
        await unit.functions.insert(function("foreign", project_id="q"))
    async with store.begin("p") as unit:
        await unit.functions.insert(function())
        await unit.deployments.insert(deployment("other", function_id="g"))
        await unit.executions.insert(execution("hidden"))
        with pytest.raises(CursorNotFound):
            await unit.functions.list(ListQuery(cursor="foreign"))
        with pytest.raises(CursorNotFound):
            await unit.deployments.list("f", ListQuery(cursor="other"))
        with pytest.raises(CursorNotFound):
            await unit.executions.list("f", ListQuery(cursor="hidden"), ["user:u"])
        with pytest.raises(CursorNotFound):
            await unit.functions.list(ListQuery(cursor="none", random=True))
        # The cursor need not match the filters.
        page = await unit.functions.list(ListQuery(filters=(Filter("equal", "name", ("x",)),), cursor="f"))
        assert page.items == ()


async def test_totals_count_what_the_filters_match_whatever_the_page(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for number in range(7):
            await unit.functions.insert(function(f"f{number}", enabled=number % 2 == 0))
        wanted = (Filter("equal", "enabled", (True,)),)
        page = await unit.functions.list(ListQuery(filters=wanted, limit=1, cursor="f2", offset=1))
        assert (page.total, [item.id for item in page.items]) == (4, ["f6"])
        page = await unit.functions.list(ListQuery(count=False))
        assert (page.total, len(page.items)) == (0, 7)
        shuffled = await unit.functions.list(ListQuery(random=True, limit=5))
        assert len({item.id for item in shuffled.items}) == 5


async def test_totals_stop_at_the_cap(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearth.store.sql.pages.TOTAL_MAX", 3)
    async with store.begin("p") as unit:
        for number in range(5):
            await unit.variables.insert(variable(f"v{number}"))
        page = await unit.variables.list("function", "f", ListQuery())
        assert (page.total, len(page.items)) == (3, 5)
        page = await unit.variables.list(
            "function", "f", parse_queries([json.dumps(_query("equal", "key", "KEY_v1"))], attributes.VARIABLES)
        )
        assert (page.total, page.items[0].value) == (1, "value")


def _query(method: str, attribute: str, *values: Any) -> dict[str, Any]:
    return {"method": method, "attribute": attribute, "values": list(values)}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["one-1", "two"]),
        ("MY", ["one-1"]),
        ("func", ["one-1"]),
        ("unc", []),
        ("my other", []),
        ("func my", ["one-1"]),
        ("one-1", ["one-1"]),
        ("node", ["one-1"]),
        ("node-2", ["one-1"]),
        ("pyth", ["two"]),
        ("größe", ["two"]),
        ("GRÖSSE", ["two"]),
        ("%", []),
        ("_", []),
        (" - ", []),
    ],
)
async def test_search_finds_words_of_id_name_and_runtime_by_their_beginnings(
    store: SqlStore, search: str, found: list[str]
) -> None:
    async with store.begin("p") as unit:
        await unit.functions.insert(function("one-1", name="My Func_x", runtime="node-22"))
        await unit.functions.insert(function("two", name="old", runtime="python-3.12"))
        await unit.functions.update("two", name="Größe (neu)")
        page = await unit.functions.list(ListQuery(search=search))
        assert [item.id for item in page.items] == found


@pytest.mark.slow
async def test_more_conditions_than_a_database_takes_are_refused_as_a_query(store: SqlStore) -> None:
    chain, list_of = Filter("contains", "name", ("x",) * 299), Filter("equal", "name", ("x",) * 500)
    nested = Filter("equal", "name", ("x",))
    for _ in range(100):
        nested = Filter("or", parts=(Filter("and", parts=(nested,)), Filter("isNull", "name")))
    async with store.view("p") as unit:
        for too_many in ((chain, chain, nested), (list_of,) * 21):
            with pytest.raises(Refusal, match="too many"):
                await unit.functions.list(ListQuery(filters=too_many))
        for enough in ((chain, chain), (list_of,) * 20, (nested,)):
            assert (await unit.functions.list(ListQuery(filters=enough))).total == 0

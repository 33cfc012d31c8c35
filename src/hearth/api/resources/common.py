"""Parameters that several resources have."""

from collections.abc import Mapping
from dataclasses import replace

from hearth.api.routes import Param, Place
from hearth.api.validators import Boolean, Id, Queries, Text
from hearth.model.queries import Kind, ListQuery

PROJECT_GROUPS = frozenset({"api", "functions"})

FUNCTION_ID = Param("functionId", Place.PATH, Id(), "Function ID.", "function_id", required=True)
DEPLOYMENT_ID = Param("deploymentId", Place.PATH, Id(), "Deployment ID.", "deployment_id", required=True)
EXECUTION_ID = Param("executionId", Place.PATH, Id(), "Execution ID.", "execution_id", required=True)
VARIABLE_ID = Param("variableId", Place.PATH, Id(), "Variable ID.", "variable_id", required=True)

TOTAL = Param(
    "total",
    Place.QUERY,
    Boolean(loose=True),
    "Whether to count the matches. When false, `total` is 0 and the call is cheaper.",
    "count",
    default=True,
)
SEARCH = Param("search", Place.QUERY, Text(0, 256), "Search term of at most 256 characters.", "search", default="")


def queries(attributes: Mapping[str, Kind], *, selectable: bool = False, default_limit: int | None = None) -> Param:
    """The `queries` parameter of a list over `attributes`."""
    validator = Queries(attributes, selectable, default_limit)
    return Param(
        "queries",
        Place.QUERY,
        validator,
        f"At most 100 queries of at most 4096 characters each, over the attributes {', '.join(attributes)}.",
        "query",
        default=validator.default,
    )


def listed(query: ListQuery, *, search: str = "", count: bool = True) -> ListQuery:
    """`query` with the two parameters that stand beside it."""
    if not search and count:
        return query
    return replace(query, search=search, count=count)

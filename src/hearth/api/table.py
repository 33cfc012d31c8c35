"""The whole table of routes."""

from hearth.api.resources import (
    catalogue,
    deployments,
    executions,
    functions,
    git_deployments,
    health,
    reference,
    variables,
)
from hearth.api.routes import Facts, Route


def all_routes(facts: Facts) -> tuple[Route, ...]:
    """Every route of this server, those that describe all others among them."""
    described = (
        *executions.routes(facts),
        *functions.routes(facts),
        *deployments.ROUTES,
        *git_deployments.ROUTES,
        *variables.ROUTES,
        *catalogue.ROUTES,
        *health.ROUTES,
    )
    return (*described, *reference.routes(described))

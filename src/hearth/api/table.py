"""The whole table of routes."""

from hearth.api.resources import catalogue, deployments, executions, functions, health, variables
from hearth.api.routes import Facts, Route


def all_routes(facts: Facts) -> tuple[Route, ...]:
    """Every route of this server."""
    return (
        *executions.routes(facts),
        *functions.routes(facts),
        *deployments.ROUTES,
        *variables.ROUTES,
        *catalogue.ROUTES,
        *health.ROUTES,
    )

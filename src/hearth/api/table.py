"""The whole table of routes."""

from hearth.api.resources import (
    account,
    account_sessions,
    catalogue,
    console,
    dead_letters,
    deployments,
    events,
    executions,
    function_settings,
    functions,
    git_deployments,
    health,
    keys,
    logs,
    memberships,
    platforms,
    project_variables,
    projects,
    reference,
    rules,
    teams,
    templates,
    users,
    users_sessions,
    variables,
    webhooks,
)
from hearth.api.routes import Facts, Route


def all_routes(facts: Facts) -> tuple[Route, ...]:
    """Every route of this server, those that describe all others among them."""
    described = (
        *executions.routes(facts),
        *logs.ROUTES,
        *dead_letters.ROUTES,
        *functions.routes(facts),
        *function_settings.ROUTES,
        *deployments.ROUTES,
        *git_deployments.ROUTES,
        *variables.ROUTES,
        *account.ROUTES,
        *account_sessions.ROUTES,
        *users.ROUTES,
        *users_sessions.ROUTES,
        *teams.ROUTES,
        *memberships.ROUTES,
        *catalogue.ROUTES,
        *templates.routes(facts),
        *projects.ROUTES,
        *keys.ROUTES,
        *platforms.ROUTES,
        *project_variables.ROUTES,
        *rules.ROUTES,
        *webhooks.ROUTES,
        *events.ROUTES,
        *console.ROUTES,
        *health.ROUTES,
    )
    return (*described, *reference.routes(described))

"""Which scopes a project's key can have: the contract's, and those of our own."""

from functools import cache

from hearth.data import load

#: Scopes that the contract's table does not have.
OWN_SCOPES = ("events.write",)


@cache
def project_scopes() -> tuple[str, ...]:
    """Every scope a project key can have, in the order of the table."""
    return (*(row["scope"] for row in load("scopes.json")["project"]), *OWN_SCOPES)

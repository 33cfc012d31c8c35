"""Templates: functions to start from (contract: functions-api 5.6, 6.5). A table of facts, nothing is stored."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hearth.data import load
from hearth.model.refusals import Refusal

#: A template as the wire shows it.
Template = Mapping[str, Any]

_HIDDEN = ("score", "runtimes")


def use_cases() -> tuple[str, ...]:
    """What templates can be for."""
    return tuple(load("templates.json")["useCases"])


def find(template_id: str) -> Template:
    """Raises `function_template_not_found`. Of several with one id, the first of the table."""
    for template in _all():
        if template["id"] == template_id:
            return template
    raise Refusal("function_template_not_found")


def search(
    *, runtimes: Sequence[str] = (), use_cases: Sequence[str] = (), limit: int = 25, offset: int = 0
) -> tuple[int, Sequence[Template]]:
    """How many templates share a runtime and a use case with these (none given = any), and one page of them."""
    found = [template for template in _all() if _matches(template, set(runtimes), set(use_cases))]
    return len(found), found[offset : offset + limit]


def _matches(template: Template, runtimes: set[str], use_cases: set[str]) -> bool:
    own = {runtime["name"] for runtime in template["runtimes"]}
    return (not runtimes or bool(own & runtimes)) and (not use_cases or bool(use_cases & set(template["useCases"])))


@cache
def _all() -> tuple[Template, ...]:
    """By score, highest first; equal ones in the order of the table, where runtimes of one setting share an entry."""
    rows = sorted(load("templates.json")["templates"], key=lambda row: -row["score"])
    return tuple(
        {
            **{key: value for key, value in row.items() if key not in _HIDDEN},
            "runtimes": [
                {
                    "name": name,
                    "commands": group["commands"],
                    "entrypoint": group["entrypoint"],
                    "providerRootDirectory": group["providerRootDirectory"],
                }
                for group in row["runtimes"]
                for name in group["names"]
            ],
        }
        for row in rows
    )

"""Events: their grammar, and every name under which one occurrence is known (contract: functions-api 14).

An event is `type.id (.subType.id (.subSubType.id)) (.action (.attribute))`; `*` stands for any id in a pattern.
Pure; who listens is the affair of `hearth.control.events`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import msgspec

from hearth.data import load
from hearth.model.ids import is_id

PARTS_MIN, PARTS_MAX = 2, 7
#: Databases speak two vocabularies; an event of one is known in the other as well.
_MIRROR = {
    "collections": "tables",
    "documents": "rows",
    "attributes": "columns",
    "tables": "collections",
    "rows": "documents",
    "columns": "attributes",
}


@dataclass(frozen=True, slots=True)
class Named:
    """A concrete event, taken apart: pairs of resource type and id, then action and attribute as far as there are."""

    resources: tuple[tuple[str, str], ...]
    tail: tuple[str, ...] = ()


class Occurrence(msgspec.Struct, frozen=True):
    """Something that happened: the concrete event, and the resource as it is now.

    `user_id` is whoever caused it, `""` if that was no user.
    """

    project_id: str
    event: str
    subject: object
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """The subject of an event that a caller published: its payload as it was given."""

    payload: Mapping[str, Any]


def is_pattern(text: str, *, functions: bool) -> bool:
    """Whether one may subscribe to `text`; `functions` says whether events of functions are allowed."""
    parts = text.split(".")
    if not PARTS_MIN <= len(parts) <= PARTS_MAX or (parts[0] == "functions" and not functions):
        return False
    node = _root()
    rest = iter(parts)
    for part in rest:
        child = _child(node, part)
        if child is None:
            return False
        node = child
        if node.get("$resource"):
            identifier = next(rest, None)
            if identifier is None or not (identifier == "*" or is_id(identifier)):
                return False
    return True


def parse(event: str) -> Named | None:
    """A concrete event of the table, taken apart; None if it is none. Ids may hold periods."""
    return next(_resources(_root(), event.split("."), 0, ()), None)


def variants(event: str) -> tuple[str, ...]:
    """Every name of a concrete event, itself first: with `*` for ids, without attribute, action and inner resources.

    An event whose type is not in the table is taken as `type.id.action.attribute`.
    """
    named = parse(event) or _unknown(event)
    names: dict[str, None] = {}
    for resources, tail in _shortened(named):
        for stars in _stars(len(resources)):
            ids = ["*" if place in stars else id for place, (_, id) in enumerate(resources)]
            types = [type for type, _ in resources]
            names[_joined(types, ids, tail)] = None
            if types[0] == "databases" and len(types) > 1:
                names[_joined([types[0], *(_MIRROR.get(type, type) for type in types[1:])], ids, tail)] = None
    return tuple(names)


def _root() -> Mapping[str, Any]:
    tree: Mapping[str, Any] = load("events.json")["tree"]
    return tree


def _child(node: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    child = None if name.startswith("$") else node.get(name)
    return child if isinstance(child, Mapping) else None


def _resources(
    node: Mapping[str, Any], parts: Sequence[str], start: int, found: tuple[tuple[str, str], ...]
) -> Iterator[Named]:
    """Readings of `parts[start:]` below `node`, the one with the shortest ids first."""
    if start == len(parts):
        if found:
            yield Named(found)
        return
    child = _child(node, parts[start])
    if child is None:
        return
    if not child.get("$resource"):
        tail = tuple(parts[start:])
        if found and (len(tail) == 1 or (len(tail) == 2 and _child(child, tail[1]) is not None)):
            yield Named(found, tail)
        return
    for end in range(start + 2, len(parts) + 1):
        id = ".".join(parts[start + 1 : end])
        if is_id(id):
            yield from _resources(child, parts, end, (*found, (parts[start], id)))


def _unknown(event: str) -> Named:
    type, _, rest = event.partition(".")
    id, *tail = rest.split(".")
    return Named(((type, id),), tuple(tail))


def _shortened(named: Named) -> Iterator[tuple[tuple[tuple[str, str], ...], tuple[str, ...]]]:
    for length in range(len(named.tail), 0, -1):
        yield named.resources, named.tail[:length]
    for length in range(len(named.resources), 0, -1):
        yield named.resources[:length], ()


def _stars(count: int) -> Iterator[frozenset[int]]:
    """Which ids become `*`: none, all, then fewer; later ids first."""
    yield frozenset()
    yield frozenset(range(count))
    for size in range(1, count):
        for places in combinations(reversed(range(count)), size):
            yield frozenset(places)


def _joined(types: Sequence[str], ids: Sequence[str], tail: Sequence[str]) -> str:
    pairs = [part for pair in zip(types, ids, strict=True) for part in pair]
    return ".".join([*pairs, *tail])

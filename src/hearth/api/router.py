"""Finds the route of a request by its segments: a tree per method, fixed names before parameters, no patterns."""

from collections.abc import Iterable
from urllib.parse import unquote

from hearth.api.routes import Route


class _Node:
    __slots__ = ("fixed", "open", "route")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.open: _Node | None = None
        self.route: tuple[Route, tuple[str, ...]] | None = None


class Router:
    """The table, compiled. Building it raises ValueError when two routes share a method and path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._trees: dict[str, _Node] = {}
        for route in routes:
            for method, path in ((route.method, route.path), *route.aliases):
                self._add(method, path, route)

    def _add(self, method: str, path: str, route: Route) -> None:
        node = self._trees.setdefault(method, _Node())
        names: list[str] = []
        for segment in path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.open = node.open or _Node()
                node = node.open
            else:
                node = node.fixed.setdefault(segment, _Node())
        if node.route is not None:
            raise ValueError(f"{method} {path} is both {node.route[0].name} and {route.name}")
        node.route = (route, tuple(names))

    def find(self, method: str, segments: list[str]) -> tuple[Route, dict[str, str]] | None:
        """The route and its path parameters, decoded; None if there is none. HEAD finds the GET route."""
        tree = self._trees.get("GET" if method == "HEAD" else method)
        values: list[str] = []
        found = None if tree is None else _descend(tree, segments, 0, values)
        if found is None:
            return None
        route, names = found
        return route, {
            name: unquote(value) if "%" in value else value for name, value in zip(names, values, strict=True)
        }


def _descend(node: _Node, segments: list[str], index: int, values: list[str]) -> tuple[Route, tuple[str, ...]] | None:
    if index == len(segments):
        return node.route
    segment = segments[index]
    child = node.fixed.get(segment)
    if child is not None:
        found = _descend(child, segments, index + 1, values)
        if found is not None:
            return found
    if node.open is None or not segment:
        return None
    values.append(segment)
    found = _descend(node.open, segments, index + 1, values)
    if found is None:
        values.pop()
    return found

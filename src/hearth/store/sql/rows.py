"""Rows to resources and back, by name."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from typing import Any, TypeVar, get_type_hints

import msgspec
from sqlalchemy import Row

T = TypeVar("T")


def names_of(resource: type) -> tuple[str, ...]:
    """The fields of a resource, in order; some are structs, most are dataclasses."""
    if issubclass(resource, msgspec.Struct):
        return resource.__struct_fields__
    return tuple(field.name for field in fields(resource))  # type: ignore[arg-type]  # the rest are dataclasses


def reader(resource: type[T]) -> Callable[[Row[Any]], T]:
    """Make a function that turns a row with a column per field into `resource`."""
    hints = get_type_hints(resource)
    names = names_of(resource)
    enums = {name: kind for name in names if isinstance(kind := hints[name], type) and issubclass(kind, StrEnum)}

    def read(row: Row[Any]) -> T:
        mapping = row._mapping
        values = {name: mapping[name] for name in names}
        for name, kind in enums.items():
            values[name] = kind(values[name])
        return resource(**values)

    return read


def values_of(resource: Any) -> dict[str, Any]:
    """The columns of a resource to be inserted: every field but `sequence`, which the database gives."""
    return {name: getattr(resource, name) for name in names_of(type(resource)) if name != "sequence"}


def checked(resource: type, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `changes` as a dictionary. Raises TypeError for a field the resource does not have or that is fixed."""
    allowed = set(names_of(resource)) - {"sequence", "id", "project_id"}
    wrong = sorted(set(changes) - allowed)
    if wrong:
        raise TypeError(f"{resource.__name__} has no field to change named {', '.join(wrong)}")
    return dict(changes)

"""The pieces JSON schemas of models are made of."""

from typing import Any

from hearth.model.queries import TOTAL_MAX

Schema = dict[str, Any]


def text(description: str, **more: Any) -> Schema:
    """A string."""
    return {"type": "string", "description": description, **more}


def date(description: str) -> Schema:
    """A moment in UTC with milliseconds."""
    return text(description, format="date-time")


def maybe_date(description: str) -> Schema:
    """A moment, or `""` for never."""
    return {
        "anyOf": [{"type": "string", "format": "date-time"}, {"const": ""}],
        "description": f"{description} Empty: never.",
    }


def number(description: str, **more: Any) -> Schema:
    """A whole number that is not negative."""
    return {"type": "integer", "minimum": 0, "description": description, **more}


def flag(description: str) -> Schema:
    """A boolean."""
    return {"type": "boolean", "description": description}


def many(items: Schema, description: str) -> Schema:
    """A list."""
    return {"type": "array", "items": items, "description": description}


def texts(description: str) -> Schema:
    """A list of strings."""
    return many({"type": "string"}, description)


def reference(model: str) -> Schema:
    """Another model."""
    return {"$ref": f"#/components/schemas/{model}"}


def record(description: str, properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object whose keys are all there, except the `optional` ones."""
    required = [key for key in properties if key not in optional]
    return {"type": "object", "description": description, "required": required, "properties": properties}


def listing(key: str, model: str, description: str) -> Schema:
    """A list answer: one page of items and how many there are in all."""
    return record(
        description,
        {
            "total": number(f"Matches in all, counted up to {TOTAL_MAX}; 0 when counting was turned off."),
            key: many(reference(model), "The items of this page."),
        },
    )


def resource(name: str) -> dict[str, Schema]:
    """Id and dates of a resource."""
    return {
        "$id": text(f"{name} ID."),
        "$createdAt": date("When it was created."),
        "$updatedAt": date("When it was last changed."),
    }

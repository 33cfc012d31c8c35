"""The `search` parameter of list calls: words of a resource, matched by their beginnings, in any case.

A resource's words are stored as ` word word ... `-like text, each with a space before it, so that "a word
that begins with X" is "contains space X" on every engine.
"""

import re

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, folded: runs of letters, digits and underscores."""
    return _WORD.findall(text.casefold())


def searchable(*texts: str) -> str:
    """The stored form of what may be searched."""
    return "".join(f" {word}" for text in texts for word in words(text))

"""What differs between two runs of one request. Pure; may take a second for long texts, so not for the event loop."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from hearth.model.bodies import Body, KeptResponse
from hearth.model.resources import Execution, Header

#: Characters and lines of a text that is compared line by line; longer ones are only said to differ.
DIFF_MAX_CHARS = 262_144
DIFF_MAX_LINES = 3_000
#: Lines of a diff that is returned.
DIFF_SHOWN_LINES = 1_000
_CONTEXT = 3
#: Of one run, or said elsewhere: they differ, or not, for no reason of the function's.
_PASSED_OVER = frozenset({"x-appwrite-execution-id", "content-length"})
_INTERNAL_PREFIX = "x-open-runtimes-"


@dataclass(frozen=True, slots=True)
class TextDiff:
    """Two texts: `diff` is a unified diff, `""` if they are equal or too long to be compared line by line."""

    is_equal: bool
    diff: str


@dataclass(frozen=True, slots=True)
class HeaderDiff:
    """One header that differs: its values, in order."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BodyDiff:
    """Two bodies; for texts with a unified diff, JSON is indented for it. None stands for no response."""

    is_equal: bool
    is_text: bool
    before: Body | None
    after: Body | None
    diff: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs. `is_equal` says whether the responses are: status, headers and body."""

    is_equal: bool
    status_codes: tuple[int, int]
    durations_s: tuple[float, float]
    headers: tuple[HeaderDiff, ...]
    body: BodyDiff
    logs: TextDiff
    errors: TextDiff


def compare(
    before: Execution, response_before: KeptResponse | None, after: Execution, response_after: KeptResponse | None
) -> Comparison:
    """Compare two executions by their records and their responses (None: there was none)."""
    headers = compare_headers(_headers(response_before), _headers(response_after))
    body = compare_bodies(_body(response_before), _body(response_after))
    codes = before.response_status_code, after.response_status_code
    return Comparison(
        is_equal=codes[0] == codes[1] and not headers and body.is_equal,
        status_codes=codes,
        durations_s=(before.duration_s, after.duration_s),
        headers=headers,
        body=body,
        logs=compare_texts(before.logs, after.logs),
        errors=compare_texts(before.errors, after.errors),
    )


def compare_headers(before: Sequence[Header], after: Sequence[Header]) -> tuple[HeaderDiff, ...]:
    """The headers that one side does not have, or has with other values, by name."""
    values: dict[str, tuple[list[str], list[str]]] = {}
    for side, headers in enumerate((before, after)):
        for name, value in headers:
            if name not in _PASSED_OVER and not name.startswith(_INTERNAL_PREFIX):
                values.setdefault(name, ([], []))[side].append(value)
    return tuple(HeaderDiff(name, tuple(was), tuple(now)) for name, (was, now) in sorted(values.items()) if was != now)


def compare_bodies(before: Body | None, after: Body | None) -> BodyDiff:
    """Equal are bodies of the same bytes, also where only their beginnings are there."""
    if before is None or after is None:
        present = before if after is None else after
        return BodyDiff(before is after, present is None or _text(present) is not None, before, after, "")
    is_equal = before.size == after.size and before.sha256() == after.sha256()
    was, now = _text(before), _text(after)
    if was is None or now is None:
        return BodyDiff(is_equal, False, before, after, "")
    diff = "" if is_equal else _unified(*_indented(was, now))
    return BodyDiff(is_equal, True, before, after, diff)


def compare_texts(before: str, after: str) -> TextDiff:
    """Compare two texts line by line."""
    return TextDiff(before == after, "" if before == after else _unified(before, after))


def _unified(before: str, after: str) -> str:
    lines = before.splitlines(), after.splitlines()
    if max(len(before), len(after)) > DIFF_MAX_CHARS or max(map(len, lines)) > DIFF_MAX_LINES:
        return ""
    shown = list(difflib.unified_diff(*lines, "before", "after", n=_CONTEXT, lineterm=""))
    if len(shown) > DIFF_SHOWN_LINES:
        left_out = len(shown) - DIFF_SHOWN_LINES
        shown = [*shown[:DIFF_SHOWN_LINES], f"... {left_out} more lines of the diff"]
    return "".join(f"{line}\n" for line in shown)


def _indented(before: str, after: str) -> tuple[str, str]:
    """Two JSON documents with a line for each value, if they are such and differ in that form too."""
    if max(len(before), len(after)) > DIFF_MAX_CHARS:
        return before, after
    try:
        first, second = (json.dumps(json.loads(text), indent=2, ensure_ascii=False) for text in (before, after))
    except (ValueError, RecursionError):
        return before, after
    return (before, after) if first == second else (first, second)


def _headers(response: KeptResponse | None) -> Sequence[Header]:
    return () if response is None else response.headers


def _body(response: KeptResponse | None) -> Body | None:
    return None if response is None else response.body


def _text(body: Body) -> str | None:
    """A body as text; None for one that is none. One that was cut off may end within a character."""
    try:
        text = body.content.decode(errors="strict" if not body.is_truncated else "ignore")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text

"""What differs between two runs."""

import pytest

from hearth.control.comparing import (
    DIFF_MAX_CHARS,
    DIFF_MAX_LINES,
    DIFF_SHOWN_LINES,
    compare,
    compare_bodies,
    compare_headers,
    compare_texts,
)
from hearth.model.bodies import Body, KeptResponse, kept_body
from tests.store.samples import execution


def whole(content: bytes) -> Body:
    return kept_body(content, len(content))


def test_headers_differ_by_name_and_values_in_order_and_ours_are_passed_over() -> None:
    before = (("a", "1"), ("b", "1"), ("b", "2"), ("content-length", "3"), ("x-open-runtimes-x", "1"))
    after = (("b", "2"), ("b", "1"), ("a", "1"), ("x-appwrite-execution-id", "e"))
    [one] = compare_headers(before, after)
    assert (one.name, one.before, one.after) == ("b", ("1", "2"), ("2", "1"))


@pytest.mark.parametrize(
    ("before", "after", "is_equal", "is_text"),
    [
        (whole(b"same"), whole(b"same"), True, True),
        (whole(b"\xff"), whole(b"\xff"), True, False),
        (whole(b"text"), whole(b"\xff"), False, False),
        (whole(b"a\0b"), whole(b"a\0c"), False, False),
        (kept_body(b"12345", 2), whole(b"12345"), True, True),
        (kept_body(b"12345", 2), whole(b"12346"), False, True),
        (kept_body("aä".encode(), 2), whole(b"a"), False, True),
        (None, None, True, True),
        (None, whole(b""), False, True),
        (whole(b"\xff"), None, False, False),
    ],
)
def test_bodies_are_equal_when_all_of_their_bytes_are(
    before: Body | None, after: Body | None, is_equal: bool, is_text: bool
) -> None:
    found = compare_bodies(before, after)
    assert (found.is_equal, found.is_text) == (is_equal, is_text)


def test_json_is_compared_value_by_value_and_as_it_is_where_only_its_form_differs() -> None:
    found = compare_bodies(whole(b'{"a": [1, 2]}'), whole(b'{"a": [1, 3]}'))
    assert "-    2\n+    3\n" in found.diff
    found = compare_bodies(whole(b'{"a":1}'), whole(b'{"a": 1}'))
    assert found.diff.splitlines()[-2:] == ['-{"a":1}', '+{"a": 1}']


def test_long_texts_are_only_said_to_differ_and_long_diffs_are_cut() -> None:
    assert compare_texts("a", "a") == compare_texts("b", "b")
    for text in ("x" * (DIFF_MAX_CHARS + 1), "x\n" * (DIFF_MAX_LINES + 1)):
        found = compare_texts(text, "y")
        assert (found.is_equal, found.diff) == (False, "")
    lines = "".join(f"{number}\n" for number in range(DIFF_MAX_LINES // 2))
    found = compare_texts(lines, lines.replace("\n", "!\n"))
    assert len(found.diff.splitlines()) == DIFF_SHOWN_LINES + 1
    assert found.diff.endswith("more lines of the diff\n")


def test_runs_are_equal_when_their_responses_are_whatever_they_logged_and_took() -> None:
    response = KeptResponse(200, (("a", "1"),), whole(b"x"))
    before = execution("a", response_status_code=200, logs="1\n", duration_s=1.0)
    after = execution("b", response_status_code=200, logs="2\n", duration_s=2.0)
    found = compare(before, response, after, response)
    assert found.is_equal
    assert (found.logs.is_equal, found.errors.is_equal, found.durations_s) == (False, True, (1.0, 2.0))
    assert not compare(before, response, execution("c", response_status_code=500), response).is_equal
    assert not compare(before, None, after, response).is_equal

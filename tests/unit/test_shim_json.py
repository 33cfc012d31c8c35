"""The Python shim's JSON does what the standard library's does."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.runtimes.shims.python.hearth_json import decode, encode, encoder

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def outcome(act: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What comes back, or which error with which text."""
    try:
        return act(*arguments), ""
    except Exception as problem:
        return type(problem), str(problem)


@settings(max_examples=30)
@given(VALUES, st.booleans())
def test_a_value_is_written_and_read_alike(value: Any, is_ascii: bool) -> None:
    text = encoder(ensure_ascii=is_ascii)(value)
    assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=is_ascii)
    assert decode(f" \r\n\t{text}\n ") == value


@settings(max_examples=60)
@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \n\\u', max_size=20))
def test_a_text_is_read_or_refused_alike(text: str) -> None:
    assert repr(outcome(decode, text)) == repr(outcome(json.loads, text))


@pytest.mark.parametrize("text", ["", " ", "{broken", "1 2", '"\\x"', "\ufeff1", "NaN", "-Infinity", "[Infinity]"])
def test_odd_texts_are_read_or_refused_alike(text: str) -> None:
    assert repr(outcome(decode, text)) == repr(outcome(json.loads, text))


def test_what_cannot_be_written_is_refused_alike() -> None:
    ring: list[Any] = []
    ring.append(ring)
    for value in (object(), {"a": {1, 2}}, {(1, 2): 3}, ring, [b"x"]):
        expected = outcome(lambda given: json.dumps(given, separators=(",", ":")), value)
        assert outcome(encode, value) == expected
    assert encode({1: math.inf, None: True}) == '{"1":Infinity,"null":true}'
    assert encoder(default=str)([b"x"]) == json.dumps([b"x"], separators=(",", ":"), default=str)

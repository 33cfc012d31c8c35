"""What holds for every test."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with something else is no fault of a test. In CI the same examples are tried every time: what
# is new is found where somebody is there to look at it.
settings.register_profile(
    "hearth", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("hearth")

ALL_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)
"""What marks each test of a module, if it is said in one line. A module that says it otherwise is only read in vain."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave modules unread of which nothing would be run: rewriting the asserts of all takes seconds."""
    if not leaves_out_slow(config) or collection_path.suffix != ".py":
        return None
    return True if ALL_SLOW.search(collection_path.read_text(encoding="utf-8")) else None


def leaves_out_slow(config: pytest.Config) -> bool:
    """Whether no slow test is wanted, as in `make check`."""
    expression = str(config.getoption("markexpr"))
    return "not slow" in expression and " or " not in expression

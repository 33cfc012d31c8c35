"""What the words of a failed function say about the limits it met (hearth.executor.hints)."""

import pytest

from hearth.executor.hints import LOOKED_THROUGH_BYTES, met_limit
from hearth.executor.sandbox.spec import Limits

LIMITS = Limits(memory_bytes=1, cpus=1.0, pids=77, tmp_bytes=64 * 1024 * 1024, open_files=99)


@pytest.mark.parametrize(
    ("output", "limit"),
    [
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", "/tmp holds 64 MB"),
        ("Error: ENOSPC: no space left on device, write", "/tmp holds 64 MB"),
        ("RuntimeError: can't start new thread", "77 processes and threads"),
        ("Error: spawn /bin/true EAGAIN", "77 processes and threads"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "77 processes and threads"),
        ("OSError: [Errno 24] Too many open files: '/tmp/x'", "99 open files"),
        ("Error: EMFILE: too many open files, open '/x'", "99 open files"),
    ],
)
def test_a_limit_that_was_met_is_named_with_its_size(output: str, limit: str) -> None:
    assert limit in met_limit(output.encode(), LIMITS)


@pytest.mark.parametrize("output", ["", "Error: EAGAIN", "no space", "NOENOSPC_HERE", "TypeError: x is not a function"])
def test_other_words_say_nothing(output: str) -> None:
    assert met_limit(output.encode(), LIMITS) == ""


def test_only_the_end_is_looked_through() -> None:
    assert met_limit(b"ENOSPC" + b"." * LOOKED_THROUGH_BYTES, LIMITS) == ""

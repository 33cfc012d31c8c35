"""The host uids that the sandboxes of the tests get.

The kernel counts processes per uid, so two runs of the tests on one machine need ranges of their own:
`TEST_UID_BASE` moves all of them.
"""

import os

#: First uid of the servers under test; sandboxes that tests make themselves get uids from 100,000 further on.
BASE = int(os.environ.get("TEST_UID_BASE", "200000"))
SERVER_RANGE = f"{BASE}-{BASE + 65_535}"


def first_uid(offset: int) -> int:
    """The first uid of a group of tests; each has an offset of its own."""
    return BASE + 100_000 + offset

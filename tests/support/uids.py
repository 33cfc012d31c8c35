"""The host uids that the sandboxes of the tests get.

The kernel counts processes per uid, so two runs of the tests on one machine need ranges of their own:
`TEST_UID_BASE` moves all of them. The processes of one run (`pytest -n 2`) get different ones by themselves.
"""

import os

#: First uid of the servers under test; sandboxes that tests make themselves get uids from 100,000 further on.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
BASE = int(os.environ.get("TEST_UID_BASE", "200000")) + _WORKER * 10_000_000
SERVER_RANGE = f"{BASE}-{BASE + 65_535}"


def first_uid(offset: int) -> int:
    """The first uid of a group of tests; each has an offset of its own."""
    return BASE + 100_000 + offset

"""A handful of rounds of the fault suite on each engine, and a bug planted on purpose that it has to notice."""

import pytest

from tests.faults.rounds import run

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

# A killed database costs up to one lease, so its rounds are left to `make fault-report`.

#: Much longer than a lease, because the machine may be busy: `make fault-report` holds to the lease.
SETTLE_S = 120.0


@pytest.mark.parametrize(
    ("engine", "victims"),
    [
        ("sqlite", ("spawner", "server")),
        ("postgresql", ("gate", "server")),
    ],
)
def test_nothing_accepted_is_lost_by_a_kill(engine: str, victims: tuple[str, ...]) -> None:
    campaign = run(engine, seed=11, count=len(victims), victims=victims, settle_s=SETTLE_S)
    assert campaign.found == []
    assert len(campaign.rounds) == len(victims)
    assert campaign.accepted.total() and campaign.runs


def test_a_bug_planted_on_purpose_is_noticed() -> None:
    """A kill may meet no execution that the bug would lose, so the server is killed until one is met."""
    campaign = run("sqlite", seed=12, count=8, victims=("server",), settle_s=SETTLE_S, planted="intents-forgotten")
    assert "ran unrecorded" in {it.rule for it in campaign.rounds[-1].violations}

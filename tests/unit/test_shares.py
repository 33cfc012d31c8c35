"""How CPU time and memory of an instance become figures of its executions (docs/adr/0033)."""

import random
from dataclasses import dataclass

import pytest

from hearth.executor.shares import PEAK_EVERY_S, READ_EVERY_S, SHORT_S, Shares


@dataclass
class FakeMeter:
    """Says what it is told to."""

    used_s: float | None = 0.0
    peak_bytes: int | None = 0
    readings: int = 0

    def cpu_s(self) -> float | None:
        self.readings += 1
        return self.used_s

    def peak_memory_bytes(self) -> int | None:
        return self.peak_bytes


def opened(meter: FakeMeter, now: float = 0.0) -> Shares:
    shares = Shares()
    shares.open(meter, now)
    return shares


def test_what_was_used_before_the_code_was_loaded_is_nobodys() -> None:
    meter = FakeMeter(used_s=5.0, peak_bytes=7)
    shares = opened(meter)
    begun = shares.begin(0, 1.0)
    meter.used_s = 5.25
    assert shares.end(begun, 1, 1.0, 2.0) == (0.25, 7)


def test_what_an_idle_instance_used_is_the_next_executions() -> None:
    meter = FakeMeter()
    shares = opened(meter)
    begun = shares.begin(0, 1.0)
    meter.used_s = 0.25
    assert shares.end(begun, 1, 1.0, 2.0)[0] == 0.25
    meter.used_s = 0.5  # nothing runs
    begun = shares.begin(0, 100.0)
    meter.used_s = 0.75
    assert shares.end(begun, 1, 100.0, 101.0)[0] == 0.5


def test_those_that_run_together_share_evenly_and_only_while_they_do() -> None:
    meter = FakeMeter()
    shares = opened(meter)
    first = shares.begin(0, 0.0)
    meter.used_s = 8.0
    second = shares.begin(1, 10.0)
    meter.used_s = 8.5
    assert shares.end(second, 2, 10.0, 11.0)[0] == 0.25, "nothing of what the first one used before"
    meter.used_s = 10.0
    assert shares.end(first, 1, 0.0, 12.0)[0] == 8.0 + 0.25 + 1.5


def test_nothing_is_lost_and_nothing_counted_twice_in_any_history() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        meter = FakeMeter()
        shares = opened(meter)
        running: list[tuple[float, float]] = []
        now = told = 0.0
        for _ in range(200):
            now += chance.choice((0.0, READ_EVERY_S / 3, 0.01))
            meter.used_s = (meter.used_s or 0.0) + chance.choice((0.0, 0.001, 0.5))
            if running and chance.random() < 0.5:
                begun, started = running.pop(chance.randrange(len(running)))
                cpu_s, _ = shares.end(begun, len(running) + 1, started, now)
                assert cpu_s is not None
                assert cpu_s >= 0
                told += cpu_s
            else:
                running.append((shares.begin(len(running), now), now))
        for left in range(len(running), 0, -1):
            now += 1.0
            begun, started = running.pop()
            told += shares.end(begun, left, started, now)[0] or 0.0
        assert told == pytest.approx(meter.used_s), seed


def test_many_that_end_together_cost_one_reading() -> None:
    meter = FakeMeter()
    shares = opened(meter)
    begun = [shares.begin(number, 1.0) for number in range(20)]
    before = meter.readings
    meter.used_s = 2.0
    told = [shares.end(each, 20 - number, 1.0, 2.0)[0] for number, each in enumerate(begun)]
    assert meter.readings == before + 2, "one for all of them, one for the last, which is alone"
    assert told == [0.1] * 20


def test_the_peak_is_read_again_where_there_was_time_to_use_more() -> None:
    meter = FakeMeter(peak_bytes=100)
    shares = opened(meter)
    now = 1.0
    assert shares.end(0.0, 1, now - SHORT_S / 2, now)[1] == 100
    meter.peak_bytes = 200
    now += PEAK_EVERY_S / 2
    assert shares.end(0.0, 1, now - SHORT_S / 2, now)[1] == 100, "a short one, and the last reading is fresh"
    assert shares.end(0.0, 1, now - 2 * SHORT_S, now)[1] == 200
    meter.peak_bytes = 300
    now += 2 * PEAK_EVERY_S
    assert shares.end(0.0, 1, now - SHORT_S / 2, now)[1] == 300


def test_an_instance_that_ended_is_read_to_its_end() -> None:
    meter = FakeMeter(used_s=1.0, peak_bytes=10)
    shares = opened(meter)
    begun = [shares.begin(0, 1.0), shares.begin(1, 1.0)]
    meter.used_s = meter.peak_bytes = None  # its groups are gone
    shares.close(2, used_s=4.0, peak_bytes=50)
    assert [shares.end(each, 2, 1.0, 2.0) for each in begun] == [(1.5, 50), (1.5, 50)]


def test_an_end_of_which_nothing_is_known_leaves_what_was_read() -> None:
    meter = FakeMeter(peak_bytes=10)
    shares = opened(meter)
    shares.end(shares.begin(0, 1.0), 1, 1.0, 2.0)
    begun = shares.begin(0, 3.0)
    meter.used_s = meter.peak_bytes = None
    shares.close(1, used_s=0.0, peak_bytes=0)
    assert shares.end(begun, 1, 3.0, 4.0) == (0.0, 10)


@pytest.mark.parametrize("meter", [None, FakeMeter(used_s=None)])
def test_where_nothing_is_counted_nothing_is_told(meter: FakeMeter | None) -> None:
    shares = Shares()
    shares.open(meter, 0.0)
    begun = shares.begin(0, 1.0)
    assert shares.end(begun, 1, 1.0, 2.0) == (None, None)
    shares.close(1, used_s=3.0, peak_bytes=4)
    assert shares.end(begun, 1, 1.0, 2.0) == (None, None)

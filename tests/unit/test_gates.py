"""Limits of a function hold in any order of beginnings and ends."""

import random
from collections import Counter

from hearth.control.gates import WINDOW_S, Gates, Key
from hearth.model.function_settings import DEFAULT_SETTINGS, FunctionSettings

F: Key = ("p", "f")


def test_no_history_breaks_a_limit_and_what_is_refused_may_come_when_it_is_told() -> None:
    for _ in range(60):
        seed = random.randrange(2**32)
        dice = random.Random(seed)
        gates, now = Gates(), 0.0
        limits = {
            ("p", name): FunctionSettings(max_concurrency=dice.randint(0, 4), rate_limit_per_minute=dice.randint(0, 6))
            for name in "fgh"
        }
        running: Counter[Key] = Counter()
        begun: dict[Key, list[float]] = {key: [] for key in limits}
        for _ in range(300):
            key = dice.choice(list(limits))
            settings = limits[key]
            if dice.random() < 0.5 and running[key]:
                gates.leave(key)
                running[key] -= 1
            else:
                closed = gates.enter(key, settings, now)
                if closed is not None and closed.limit == "rateLimitPerMinute":
                    assert 0 < closed.wait_s <= WINDOW_S, seed
                    if not settings.max_concurrency:
                        now += closed.wait_s + 1e-6
                        closed = gates.enter(key, settings, now)
                        assert closed is None, seed
                if closed is None:
                    running[key] += 1
                    begun[key].append(now)
            for each, count in running.items():
                assert gates.running(each) == count, seed
                assert not limits[each].max_concurrency or count <= limits[each].max_concurrency, seed
                rate = limits[each].rate_limit_per_minute
                in_window = [moment for moment in begun[each] if moment > now - WINDOW_S]
                assert not rate or len(in_window) <= rate, seed
            now += dice.random() * 5


def test_the_limit_is_named_as_the_settings_name_it() -> None:
    gates = Gates()
    settings = FunctionSettings(max_concurrency=1)
    assert gates.enter(F, settings, 0) is None
    closed = gates.enter(F, settings, 0)
    assert closed is not None
    assert (closed.limit, closed.message) == ("maxConcurrency", "The function runs 1 times at once already.")


def test_a_limit_that_was_lifted_holds_no_longer() -> None:
    gates = Gates()
    assert gates.enter(F, FunctionSettings(rate_limit_per_minute=1), 0) is None
    assert gates.enter(F, DEFAULT_SETTINGS, 0) is None
    assert gates.enter(F, FunctionSettings(rate_limit_per_minute=1), 1) is None


def test_whoever_waits_hears_of_each_end() -> None:
    gates = Gates()
    heard: list[Key] = []
    gates.on_left = heard.append
    gates.enter(F, FunctionSettings(max_concurrency=1), 0)
    gates.leave(F)
    assert heard == [F]
    assert gates.enter(F, FunctionSettings(max_concurrency=1), 0) is None

"""How often and how many times at once a function may run on this server (`rateLimitPerMinute`, `maxConcurrency`).

Counted here and not in the executor's pool: what is refused or has to wait must never reach it, and one function may
have instances under several keys there (docs/adr, limits of functions). Decides and counts; waits for nothing.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from hearth.model.function_settings import FunctionSettings

WINDOW_S = 60.0

#: Project and function.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Closed:
    """A run may not begin now. `limit` is the setting's name in the API, `wait_s` when it is worth to try again."""

    limit: str
    wait_s: float
    message: str
    space_s: float = 0.0
    """What is put off is put off by so much more for each one that was put off before it."""


class Gates:
    """Runs of functions that have limits. `on_left` hears of every run that ended."""

    def __init__(self) -> None:
        self.on_left: Callable[[Key], None] | None = None
        self._running: dict[Key, int] = {}
        self._begun: dict[Key, deque[float]] = {}

    def enter(self, key: Key, settings: FunctionSettings, now: float) -> Closed | None:
        """Begin a run at `now` (monotonic seconds): None, and `leave` must follow, or why not."""
        most, rate = settings.max_concurrency, settings.rate_limit_per_minute
        running = self._running.get(key, 0)
        if most and running >= most:
            return Closed("maxConcurrency", 1.0, f"The function runs {most} times at once already.")
        if rate:
            begun = self._begun.setdefault(key, deque())
            while begun and begun[0] <= now - WINDOW_S:
                begun.popleft()
            if len(begun) >= rate:
                wait_s = begun[-rate] + WINDOW_S - now
                return Closed(
                    "rateLimitPerMinute", wait_s, f"The function may be run {rate} times a minute.", WINDOW_S / rate
                )
            begun.append(now)
        else:
            self._begun.pop(key, None)
        self._running[key] = running + 1
        return None

    def leave(self, key: Key) -> None:
        """A run that entered has ended."""
        left = self._running[key] - 1
        if left:
            self._running[key] = left
        else:
            del self._running[key]
        if self.on_left is not None:
            self.on_left(key)

    def running(self, key: Key) -> int:
        """How many runs are under way."""
        return self._running.get(key, 0)


def is_limited(settings: FunctionSettings) -> bool:
    """Whether runs of a function have to be counted at all."""
    return bool(settings.max_concurrency or settings.rate_limit_per_minute)

"""Rate limits: fixed windows counted in memory, so a restart begins a new window (see docs/api-notes.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hearth.api.routes import AbuseRule
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import Refusal
from hearth.ports import Clock

DAY_S = 86_400
#: Windows remembered at one time; beyond it the ended ones are dropped, then the oldest.
WINDOWS_MAX = 100_000
#: Characters of a request's field that tell callers apart.
FIELD_MAX_CHARS = 256


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands in a window: `reset_at` is the Unix time (seconds) at which it ends."""

    limit: int
    remaining: int
    reset_at: int
    key: str = ""

    def headers(self) -> dict[str, str]:
        """The headers that tell the caller."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset_at),
        }


class RateLimits:
    """Counters of calls per key and window. For one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, int], int] = {}

    def take(self, key: str, limit: int, window_s: int) -> Standing:
        """Count one call. Raises `general_rate_limit_exceeded` (with the headers) when the window is used up."""
        now = int(self._clock.now().timestamp())
        end = now - now % window_s + window_s
        used = self._counts.get((key, end), 0)
        if used >= limit:
            standing = Standing(limit, 0, end)
            raise Refusal(
                "general_rate_limit_exceeded",
                f"The limit of {limit} calls per {window_s} seconds is used up. Try again in {end - now} s.",
                headers=standing.headers() | {"retry-after": str(end - now)},
            )
        if len(self._counts) >= WINDOWS_MAX:
            self._forget(now)
        self._counts[key, end] = used + 1
        return Standing(limit, limit - used - 1, end, key)

    def check_route(
        self,
        rule: AbuseRule,
        url: str,
        actor: Actor,
        client_ip: str,
        fields: Mapping[str, Any] = MappingProxyType({}),
    ) -> Standing | None:
        """Check 18: count a call of a route with a limit; None for callers that are exempt (keys, admins).

        `fields` are the request's own, not checked yet; text counts whatever its letters' case.
        """
        if actor.kind in (ActorKind.KEY, ActorKind.ADMIN):
            return None
        key = rule.key.format(url=url, ip=client_ip, user=actor.user_id)
        for name in rule.fields:
            key += f",{name}:{str(fields.get(name, ''))[:FIELD_MAX_CHARS].strip().lower()}"
        return self.take(key, rule.limit, rule.window_s)

    def forget(self, standing: Standing) -> None:
        """Begin the window of `standing` anew."""
        self._counts.pop((standing.key, standing.reset_at), None)

    def _forget(self, now: int) -> None:
        self._counts = {key: count for key, count in self._counts.items() if key[1] > now}
        while len(self._counts) >= WINDOWS_MAX:
            del self._counts[next(iter(self._counts))]

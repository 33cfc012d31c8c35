"""What the API layer is told by the operator. Values come from `hearth.app`, which reads them from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Limits and names of one server's API.

    `abuse` switches every rate limit on or off. `function_creations_per_day` is per project, 0 = no limit.
    `allowed_origins` are host names of browser origins besides loopback and the server's own. A peer in
    `trusted_proxies` (addresses) may name the client in `x-forwarded-for`.
    """

    abuse: bool = True
    functions_domain: str = "functions.localhost"
    function_creations_per_day: int = 0
    function_timeout_max_s: int = 900
    build_timeout_s: int = 900
    region: str = "default"
    domain_target: tuple[str, ...] = ()
    """Names or addresses that domains elsewhere must lead to; none = where the functions domain leads."""
    source_max_bytes: int = 30_000_000
    """Largest source archive of a deployment, 0 = no limit."""
    execution_request_max_bytes: int = 64 * 1024 * 1024
    """Largest request that creates an execution: 10485760 characters of body, each up to 6 bytes as JSON."""
    body_memory_max_bytes: int = 512 * 1024 * 1024
    """Request bodies held in memory at one time, all requests together."""
    uploads_at_once: int = 64
    """Uploads being received at one time; one client sends up to 8."""
    allowed_origins: frozenset[str] = frozenset()
    trusted_proxies: frozenset[str] = frozenset({"127.0.0.1", "::1"})

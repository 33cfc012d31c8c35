"""The limits of an executor, with their units and why they have these values."""

import os
from dataclasses import dataclass, field

MIB = 1024 * 1024


def machine_memory_mb() -> int:
    """Physical memory of this machine in MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB


def machine_cpus() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many instances and waiting requests there may be. The names appear in `Busy.limit`."""

    max_instances_per_key: int = field(default_factory=lambda: max(8, 4 * machine_cpus()))
    max_instances: int = 200
    memory_mb: int = field(default_factory=lambda: machine_memory_mb() * 8 // 10)
    """Sum of `memory_mb` of all instances; a single larger one still runs, alone."""
    max_starting: int = field(default_factory=lambda: max(4, 2 * machine_cpus()))
    """Instances that may be starting at the same time: more would only slow each other down."""
    max_waiting_per_key: int = 1_000
    max_waiting: int = 10_000
    idle_timeout_s: float = 60.0  # contract: runtime-contract 9
    pause_after_s: float | None = 0.5
    """After so long without a request an instance is frozen until the next one; None = never."""
    fair_slice_s: float = 1.0
    """How long a key keeps an instance before it has to give it up to a key that has none (docs/adr/0034)."""
    failure_backoff_s: float = 0.25
    """After a failed start the key's requests get the same error for this long, doubled each time."""
    failure_backoff_max_s: float = 5.0
    crashes_forgiven: int = 3
    """Crashes in a row after which restarts of a key are spaced out."""
    crash_backoff_s: float = 0.1
    crash_backoff_max_s: float = 0.5
    keep_backoff_max_s: float = 60.0
    """The longest pause between starts of an instance that is only kept ready (`minInstances`) and does not stay up."""
    keep_retry_s: float = 1.0
    """How often it is seen whether there is room for one; and how long another has to be idle before it makes room."""


@dataclass(frozen=True, slots=True)
class StemLimits:
    """How many stem cells are kept, and how gently they are started."""

    per_kind: int = 2
    """Ready ones per runtime in use (for Node: and memory size); 0 = none at all."""
    max_stems: int = 16
    memory_mb: int = field(default_factory=lambda: machine_memory_mb() // 16)
    """What all stems together may take, counting `stem_memory_mb` for each."""
    stem_memory_mb: int = 24
    """Private memory of an idle stem and its kernel objects, rounded up (docs/adr/0010-stem-cells.md)."""
    max_starting: int = 1
    """Stems that may be starting at the same time: they are for later, requests are for now."""
    quiet_load: int = field(default_factory=machine_cpus)
    """Requests running and instances starting, fewer than which leave a core for a stem's start."""
    refill_delay_s: float = 0.05
    """How long after one was taken the next is started: the instance made of it has its first request."""
    patience_s: float = 2.0
    """How long a refill waits for a quiet moment before it goes ahead anyway."""
    retry_s: float = 0.05
    """How often a busy machine is looked at again."""
    no_room_retry_s: float = 5.0
    max_age_s: float = 1_800.0
    """Age at which a stem is replaced: what its firewall was told at its start may have changed."""
    unused_after_s: float = 3_600.0
    """How long after the last deployment or new instance of a kind its stems are kept."""
    failure_backoff_s: float = 1.0
    failure_backoff_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """Everything an executor on this machine is bounded by."""

    pool: PoolLimits = field(default_factory=PoolLimits)
    stems: StemLimits = field(default_factory=StemLimits)
    concurrency: int = 64
    """Requests at once in one instance, where the language allows it (Node, async Python).

    The original runtimes set no limit. More in one instance means fewer instances, and frames that share a write.
    """
    max_request_bytes: int = 20 * MIB  # contract: runtime-contract 9
    max_response_bytes: int = 20 * MIB
    max_stream_bytes: int = 1_000_000_000
    """Of a streamed response that is passed on as it comes; 0 = no limit."""
    stream_window_bytes: int = 256 * 1024
    """Of one streamed response, how much may be sent before the reader has taken it. At least 4 pieces."""
    cancel_grace_s: float = 1.0
    """How long a function whose streamed response nobody reads any more has to stop, before its instance is ended."""
    start_timeout_s: float = 15.0
    """From the start of a sandbox until its language server reports."""
    load_timeout_s: float = 30.0
    """From the assignment until the user's code is loaded."""
    blocked_grace_s: float = 0.25
    """How long after the timeout an instance with several requests may still answer itself."""
    code_cache_bytes: int = 4 * 1024 * MIB
    unpack_max_bytes: int = 1024 * MIB
    unpack_max_entries: int = 200_000
    unpack_timeout_s: float = 60.0

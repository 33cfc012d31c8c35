"""The figures of a server in the form Prometheus reads: the table of metrics, and the page made of it.

What happens is counted where it happens, in plain integers (`hearth.model.figures`); here they are only read, when
somebody asks. Labels have few values: no ids, unless the operator asks for those of functions (`metrics_functions`).
"""

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hearth import CONTRACT_VERSION, __version__
from hearth.control.run_figures import RunCell, RunFigures
from hearth.model import times
from hearth.model.figures import BuildFigures, CommitFigures, Distribution, ExecutorFigures, QueueFigures
from hearth.model.refusals import PlatformFault

log = structlog.get_logger(__name__)

#: How old counts of the database may be: they cost a query, and several may ask.
QUEUE_AGE_S = 10.0
#: How long the page waits for the database; without it the other figures are shown.
QUEUE_WAIT_S = 2.0

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric. Counters are shown with `_total`, histograms with `_bucket`, `_sum` and `_count` after the name."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


TABLE: tuple[Row, ...] = (
    Row("hearth_info", GAUGE, "Always 1: which version this is.", ("version", "contract")),
    Row(
        "hearth_executions",
        COUNTER,
        "Executions that ended. `runtime` is the language, `unknown` where a killed server ran them.",
        ("trigger", "status", "runtime"),
    ),
    Row("hearth_execution_duration_seconds", HISTOGRAM, "Time each run of user code took.", ("trigger", "runtime")),
    Row(
        "hearth_execution_wait_seconds",
        HISTOGRAM,
        "Time from the request, or the due time in the background, until an instance had the run.",
        ("trigger", "runtime"),
    ),
    Row(
        "hearth_execution_starts",
        COUNTER,
        "Runs by the instance that served them: `warm` was there, `cold` was started for want of one.",
        ("start", "runtime"),
    ),
    Row("hearth_executions_refused", COUNTER, "Runs refused by a limit of their function.", ("limit",)),
    Row(
        "hearth_function_executions",
        COUNTER,
        "Executions of single functions; only with `metrics_functions`.",
        ("project", "function", "status"),
    ),
    Row("hearth_instances", GAUGE, "Instances by state.", ("state",)),
    Row("hearth_instances_memory_bytes", GAUGE, "Memory promised to all instances."),
    Row("hearth_instance_starts", COUNTER, "Instances started."),
    Row("hearth_instance_waiting", GAUGE, "Requests that wait for an instance."),
    Row("hearth_instance_refusals", COUNTER, "Requests turned away by a limit of the pool.", ("limit",)),
    Row("hearth_stems", GAUGE, "Empty instances kept ready.", ("runtime", "state")),
    Row("hearth_stems_taken", COUNTER, "Instances that grew from one of those."),
    Row("hearth_builds", COUNTER, "Builds that ended.", ("status",)),
    Row("hearth_build_duration_seconds", HISTOGRAM, "Time from the start of a build to its end."),
    Row(
        "hearth_jobs",
        GAUGE,
        "Jobs of the database, all servers together: `due` waits for a worker, `later` for its time, "
        "`claimed` is carried out, `dead` was given up within 7 days.",
        ("kind", "state"),
    ),
    Row("hearth_jobs_oldest_seconds", GAUGE, "How long the oldest job has been due.", ("kind",)),
    Row("hearth_dead_letters", GAUGE, "Dead letters that are kept."),
    Row("hearth_dead_letters_new", COUNTER, "Dead letters of this server's executions.", ("reason",)),
    Row("hearth_schedules", GAUGE, "Active schedules."),
    Row(
        "hearth_schedule_lateness_seconds", HISTOGRAM, "Time from each planned time until its execution was committed."
    ),
    Row(
        "hearth_http_requests",
        COUNTER,
        "Answered requests. `route` is a name of the API, `visit` for domains of functions, `none` for none.",
        ("route", "status"),
    ),
    Row("hearth_realtime_connections", GAUGE, "Clients that listen to events."),
    Row("hearth_store_commit_seconds", HISTOGRAM, "Time of each group commit of executions."),
    Row("hearth_store_commit_entries", HISTOGRAM, "Records, accepted executions and ended attempts in each."),
    Row("hearth_store_commit_failures", COUNTER, "Group commits the database would not take."),
    Row("hearth_store_uncommitted", GAUGE, "Entries that wait for their group commit."),
    Row("hearth_database_up", GAUGE, f"Whether the database answered within {QUEUE_WAIT_S:g} s."),
    Row(
        "hearth_egress_refusals",
        COUNTER,
        "Connections and name questions the gate did not let through. What the firewall inside a sandbox refuses "
        "(private addresses, the mail port) never gets there and is not counted.",
        ("reason",),
    ),
    Row("hearth_disk_free_bytes", GAUGE, "Free space where the data folder is."),
)

#: A value and the values of its labels, in the order of the table.
Sample = tuple[tuple[str, ...], float | Distribution]


class Queue(Protocol):
    """What is asked of the store."""

    @property
    def commits(self) -> CommitFigures: ...
    @property
    def uncommitted(self) -> int: ...
    async def queue_figures(self) -> QueueFigures: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures are. Everything is read on the event loop."""

    runs: RunFigures
    builds: BuildFigures
    executor: Callable[[], ExecutorFigures]
    store: Queue
    schedules: Callable[[], int]
    lateness: Distribution
    answered: Mapping[tuple[str, int], int]
    realtime: Callable[[], int]
    egress_refused: Mapping[str, int]
    data_dir: Path


class Metrics:
    """Makes the page. For one event loop; several may ask at once."""

    def __init__(self, sources: Sources, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._queue: QueueFigures | None = None
        self._queue_at = float("-inf")
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    async def render(self) -> bytes:
        """The page: read on the event loop, written in a thread."""
        queue = await self._queue_figures()
        found = dict(_read(self._sources, queue))
        return await asyncio.to_thread(self._write, found)

    async def _queue_figures(self) -> QueueFigures | None:
        async with self._asking:
            if self._monotonic() - self._queue_at < QUEUE_AGE_S:
                return self._queue
            try:
                async with asyncio.timeout(QUEUE_WAIT_S):
                    self._queue = await self._sources.store.queue_figures()
            except (PlatformFault, TimeoutError) as problem:
                log.warning("the queue could not be counted", error=str(problem))
                self._queue = None
            self._queue_at = self._monotonic()
            return self._queue

    def _write(self, found: Mapping[str, list[Sample]]) -> bytes:
        return generate_latest(_Table(found)) + generate_latest(self._registry)


class _Table(Collector):
    """The rows of the table with what was found."""

    def __init__(self, found: Mapping[str, list[Sample]]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        for row in TABLE:
            yield _family(row, self._found.get(row.name, []))


def _family(row: Row, samples: Iterable[Sample]) -> Metric:
    if row.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(row.name, row.help, labels=row.labels)
        for labels, value in samples:
            assert isinstance(value, Distribution)  # noqa: S101 - `_read` gives one for each histogram
            histogram.add_metric(labels, _buckets(value), value.total)
        return histogram
    kind = CounterMetricFamily if row.kind == COUNTER else GaugeMetricFamily
    family = kind(row.name, row.help, labels=row.labels)
    for labels, value in samples:
        assert not isinstance(value, Distribution)  # noqa: S101 - as above
        family.add_metric(labels, value)
    return family


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Each bound with how many were at or below it."""
    buckets, sum_ = [], 0
    for bound, count in zip([*distribution.bounds, float("inf")], distribution.counts, strict=True):
        sum_ += count
        buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(sum_)))
    return buckets


def _read(sources: Sources, queue: QueueFigures | None) -> Iterator[tuple[str, list[Sample]]]:
    """Everything as it is now; what changes later is copied."""
    yield "hearth_info", [((__version__, CONTRACT_VERSION), 1.0)]
    yield from _runs(sources.runs)
    yield from _executor(sources.executor())
    yield "hearth_builds", _counts(sources.builds.ended)
    yield "hearth_build_duration_seconds", [((), sources.builds.seconds.merged(()))]
    yield from _jobs(queue)
    yield "hearth_dead_letters_new", _counts(sources.runs.dead_letters)
    yield "hearth_schedules", [((), sources.schedules())]
    yield "hearth_schedule_lateness_seconds", [((), sources.lateness.merged(()))]
    yield (
        "hearth_http_requests",
        [((route or "none", str(status)), count) for (route, status), count in sources.answered.items()],
    )
    yield "hearth_realtime_connections", [((), sources.realtime())]
    commits = sources.store.commits
    yield "hearth_store_commit_seconds", [((), commits.seconds.merged(()))]
    yield "hearth_store_commit_entries", [((), commits.entries.merged(()))]
    yield "hearth_store_commit_failures", [((), commits.failed)]
    yield "hearth_store_uncommitted", [((), sources.store.uncommitted)]
    yield "hearth_egress_refusals", _counts(sources.egress_refused)
    yield "hearth_disk_free_bytes", [((), shutil.disk_usage(sources.data_dir).free)]


def _runs(runs: RunFigures) -> Iterator[tuple[str, list[Sample]]]:
    by: dict[tuple[str, str], list[RunCell]] = defaultdict(list)
    for cell in runs.cells:
        by[cell.trigger, language_of(cell.runtime)].append(cell)
    ended: list[Sample] = []
    durations: list[Sample] = []
    waits: list[Sample] = []
    starts: dict[tuple[str, str], int] = defaultdict(int)
    for (trigger, language), cells in by.items():
        first, *others = cells
        ended.append(((trigger, "completed", language), sum(cell.completed for cell in cells)))
        ended.append(((trigger, "failed", language), sum(cell.failed for cell in cells)))
        durations.append(((trigger, language), first.durations.merged(cell.durations for cell in others)))
        waits.append(((trigger, language), first.waits.merged(cell.waits for cell in others)))
        starts["cold", language] += sum(cell.cold for cell in cells)
        starts["warm", language] += sum(cell.warm for cell in cells)
    yield "hearth_executions", ended
    yield "hearth_execution_duration_seconds", durations
    yield "hearth_execution_wait_seconds", waits
    yield "hearth_execution_starts", list(starts.items())
    yield "hearth_executions_refused", _counts(runs.refused)
    yield (
        "hearth_function_executions",
        [
            ((*key, status), count)
            for key, counts in runs.functions.items()
            for status, count in zip(("completed", "failed"), counts, strict=True)
        ],
    )


def language_of(runtime: str) -> str:
    """The language of a runtime's id: `node` of `node-22`."""
    return runtime.rpartition("-")[0] or runtime or "unknown"


def _executor(now: ExecutorFigures) -> Iterator[tuple[str, list[Sample]]]:
    yield "hearth_instances", _counts(now.instances)
    yield "hearth_instances_memory_bytes", [((), now.memory_mb * 1024 * 1024)]
    yield "hearth_instance_starts", [((), now.started)]
    yield "hearth_instance_waiting", [((), now.waiting)]
    yield "hearth_instance_refusals", _counts(now.rejected)
    yield "hearth_stems", [(key, count) for key, count in now.stems.items()]
    yield "hearth_stems_taken", [((), now.stems_taken)]


def _jobs(queue: QueueFigures | None) -> Iterator[tuple[str, list[Sample]]]:
    yield "hearth_database_up", [((), float(queue is not None))]
    if queue is None:
        return
    now = times.now()
    due = {kind: count for kind, (count, _) in queue.due.items()}
    states = {"due": due, "later": queue.later, "claimed": queue.claimed, "dead": queue.dead}
    yield (
        "hearth_jobs",
        [((kind, state), count) for state, counts in states.items() for kind, count in counts.items()],
    )
    yield (
        "hearth_jobs_oldest_seconds",
        [((kind,), max(0.0, (now - oldest).total_seconds())) for kind, (_, oldest) in queue.due.items()],
    )
    yield "hearth_dead_letters", [((), queue.dead_letters)]


def _counts(counts: Mapping[str, int]) -> list[Sample]:
    return [((name,), count) for name, count in counts.items()]

"""The page of figures (`hearth.metrics`): what was counted is what is shown."""

import asyncio
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hearth.control.run_figures import RunFigures
from hearth.metrics import COUNTER, QUEUE_AGE_S, TABLE, Metrics, Sources, language_of
from hearth.model import times
from hearth.model.figures import (
    LATENESS_BOUNDS_S,
    BuildFigures,
    CommitFigures,
    Distribution,
    ExecutorFigures,
    QueueFigures,
)
from hearth.model.refusals import PlatformFault
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus, Trigger
from tests.store.samples import execution

pytestmark = pytest.mark.anyio
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


class FakeStore:
    """A queue that stands as the test says; counts how often it is asked."""

    def __init__(self) -> None:
        self.commits = CommitFigures()
        self.uncommitted = 3
        self.asked = 0
        self.found: QueueFigures | Exception = QueueFigures(
            due={"execute": (7, times.now() - timedelta(seconds=60))}, later={"execute": 2}, dead_letters=4
        )

    async def queue_figures(self) -> QueueFigures:
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Found(dict[str, float]):
    def __getitem__(self, name: str) -> float:
        return super().__getitem__(_ordered(name))

    def __setitem__(self, name: str, value: float) -> None:
        super().__setitem__(_ordered(name), value)


def _ordered(name: str) -> str:
    metric, _, labels = name.partition("{")
    return metric + (f"{{{','.join(sorted(labels[:-1].split(',')))}}}" if labels else "")


class World:
    def __init__(self, functions_max: int = 0) -> None:
        self.runs = RunFigures(functions_max)
        self.builds = BuildFigures()
        self.store = FakeStore()
        self.lateness = Distribution(LATENESS_BOUNDS_S)
        self.answered: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.now_s = 1_000.0
        self.metrics = Metrics(
            Sources(
                runs=self.runs,
                builds=self.builds,
                executor=lambda: ExecutorFigures(
                    {"idle": 2}, 256, 1, 9, {"max_waiting": 5}, {("node-22", "ready"): 2}, 8
                ),
                store=self.store,
                schedules=lambda: 6,
                lateness=self.lateness,
                answered=self.answered,
                realtime=lambda: 1,
                egress_refused=self.refused,
                data_dir=Path("/"),
            ),
            lambda: self.now_s,
        )

    async def read(self) -> "Found":
        """Each sample by `name{label="value"}`, labels in any order."""
        text = (await self.metrics.render()).decode()
        found = Found()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found


async def test_executions_are_shown_by_trigger_status_and_language() -> None:
    world = World()
    done, failed = execution("a", status=ExecutionStatus.COMPLETED), execution("b", status=ExecutionStatus.FAILED)
    for runtime in ("node-22", "node-20"):
        world.runs.ended(done, runtime)
        world.runs.ran(done.trigger, runtime, Result(Outcome.COMPLETED, 200, duration_s=0.003, queued_s=0.02))
    world.runs.ran(Trigger.SCHEDULE, "python-3.12", Result(Outcome.CRASHED, 500, cold=True), waited_s=2.0)
    world.runs.ended(failed, "")
    found = await world.read()
    assert found['hearth_executions_total{trigger="http",status="completed",runtime="node"}'] == 2
    assert found['hearth_executions_total{trigger="http",status="failed",runtime="unknown"}'] == 1
    assert found['hearth_execution_duration_seconds_bucket{trigger="http",runtime="node",le="0.005"}'] == 2
    assert found['hearth_execution_duration_seconds_bucket{trigger="http",runtime="node",le="0.0025"}'] == 0
    assert found['hearth_execution_duration_seconds_sum{trigger="http",runtime="node"}'] == pytest.approx(0.006)
    assert found['hearth_execution_wait_seconds_bucket{trigger="http",runtime="node",le="0.025"}'] == 2
    assert found['hearth_execution_wait_seconds_bucket{trigger="schedule",runtime="python",le="2.5"}'] == 1
    assert found['hearth_execution_wait_seconds_bucket{trigger="schedule",runtime="python",le="1.0"}'] == 0
    assert found['hearth_execution_starts_total{start="warm",runtime="node"}'] == 2
    assert found['hearth_execution_starts_total{start="cold",runtime="python"}'] == 1
    assert not [name for name in found if name.startswith("hearth_function_")], "no ids unless asked for"


async def test_everything_else_is_shown_too() -> None:
    world = World()
    world.answered["executions.create", 201] = 11
    world.answered["", 404] = 2
    world.builds.ended["ready"] += 1
    world.builds.seconds.add(7)
    world.lateness.add(0.2)
    world.refused["mail port"] += 3
    world.store.commits.done(0.002, 40)
    world.runs.dead_letters["lost"] += 1
    world.runs.refused["maxConcurrency"] += 1
    found = await world.read()
    expected = {
        'hearth_http_requests_total{route="executions.create",status="201"}': 11,
        'hearth_http_requests_total{route="none",status="404"}': 2,
        'hearth_instances{state="idle"}': 2,
        "hearth_instances_memory_bytes": 256 * 1024 * 1024,
        'hearth_instance_refusals_total{limit="max_waiting"}': 5,
        'hearth_stems{runtime="node-22",state="ready"}': 2,
        'hearth_builds_total{status="ready"}': 1,
        'hearth_build_duration_seconds_bucket{le="10.0"}': 1,
        'hearth_jobs{kind="execute",state="due"}': 7,
        'hearth_jobs{kind="execute",state="later"}': 2,
        "hearth_dead_letters": 4,
        'hearth_dead_letters_new_total{reason="lost"}': 1,
        'hearth_executions_refused_total{limit="maxConcurrency"}': 1,
        "hearth_schedules": 6,
        'hearth_schedule_lateness_seconds_bucket{le="0.25"}': 1,
        'hearth_store_commit_seconds_bucket{le="0.0025"}': 1,
        'hearth_store_commit_entries_bucket{le="50.0"}': 1,
        "hearth_store_uncommitted": 3,
        "hearth_database_up": 1,
        'hearth_egress_refusals_total{reason="mail port"}': 3,
    }
    assert {name: found[name] for name in expected} == expected
    assert found['hearth_jobs_oldest_seconds{kind="execute"}'] == pytest.approx(60, abs=5)
    assert found["hearth_disk_free_bytes"] > 0
    assert found["process_resident_memory_bytes"] > 0
    text = (await world.metrics.render()).decode()
    assert [row.name for row in TABLE if f"# HELP {row.name}" not in text] == []


async def test_a_database_that_is_away_leaves_the_other_figures() -> None:
    world = World()
    world.store.found = PlatformFault("gone")
    found = await world.read()
    assert found["hearth_database_up"] == 0
    assert found["hearth_schedules"] == 6
    assert not [name for name in found if name.startswith("hearth_jobs")]


async def test_the_database_is_asked_once_in_a_while_however_many_read() -> None:
    world = World()
    await asyncio.gather(*(world.read() for _ in range(5)))
    assert world.store.asked == 1
    world.now_s += QUEUE_AGE_S
    await world.read()
    assert world.store.asked == 2


async def test_functions_are_named_up_to_the_operators_number() -> None:
    world = World(functions_max=2)
    for id in ("f1", "f2", "f1", "f3"):
        world.runs.ended(execution(id, function_id=id), "node-22")
    found = await world.read()
    named = {name: value for name, value in found.items() if name.startswith("hearth_function_") and value}
    assert sorted(named.values()) == [1, 2]
    assert not [name for name in named if '"f3"' in name]


def test_the_document_has_every_metric_as_it_is() -> None:
    rows = re.findall(r"^\| `(hearth_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    expected = [
        (
            row.name + ("_total" if row.kind == COUNTER else ""),
            row.kind,
            ", ".join(f"`{label}`" for label in row.labels),
            row.help,
        )
        for row in TABLE
    ]
    assert rows == expected


@pytest.mark.parametrize(
    ("runtime", "language"), [("node-22", "node"), ("python-ml-3.11", "python-ml"), ("", "unknown")]
)
def test_the_language_of_a_runtime(runtime: str, language: str) -> None:
    assert language_of(runtime) == language

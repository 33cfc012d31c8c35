"""Resources as tests need them, and a clock that stands still."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hearth.model.resources import (
    ApiKey,
    Deployment,
    Execution,
    Function,
    Job,
    Platform,
    Project,
    Rule,
    Variable,
    Webhook,
)
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, Trigger

KEY = bytes(range(32))
NOW = datetime(2026, 11, 24, 12, 0, 0, 123_000, tzinfo=UTC)


class FakeClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.moment = NOW
        self.stepped_s = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp() - self.stepped_s

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock by so much, as an administrator does; the monotonic clock knows nothing of it."""
        self.move(seconds)
        self.stepped_s += seconds


def project(id: str = "p") -> Project:
    return Project(id, "Project", NOW, NOW)


def function(id: str = "f", project_id: str = "p", **fields: Any) -> Function:
    return Function(
        **{"id": id, "project_id": project_id, "created_at": NOW, "updated_at": NOW}
        | {"name": "Name", "runtime": "node-22"}
        | fields
    )


def variable(id: str = "v", project_id: str = "p", **fields: Any) -> Variable:
    return Variable(
        **{"id": id, "project_id": project_id, "created_at": NOW, "updated_at": NOW, "secret": True}
        | {"resource_type": "function", "resource_id": "f", "key": f"KEY_{id}", "value": "value"}
        | fields
    )


def deployment(id: str = "d", project_id: str = "p", **fields: Any) -> Deployment:
    return Deployment(
        **{"id": id, "project_id": project_id, "function_id": "f", "created_at": NOW, "updated_at": NOW}
        | {"type": "manual", "status": DeploymentStatus.WAITING, "entrypoint": "main.py", "commands": ""}
        | {"activate": False}
        | fields
    )


def execution(id: str = "e", project_id: str = "p", **fields: Any) -> Execution:
    return Execution(
        **{"id": id, "project_id": project_id, "function_id": "f", "deployment_id": "d"}
        | {"created_at": NOW, "updated_at": NOW, "trigger": Trigger.HTTP, "status": ExecutionStatus.COMPLETED}
        | {"request_method": "GET", "request_path": "/"}
        | fields
    )


def key(id: str = "k", project_id: str = "p", **fields: Any) -> ApiKey:
    return ApiKey(
        **{"id": id, "project_id": project_id, "name": "Key", "secret_hash": f"hash-{project_id}-{id}"}
        | {"scopes": ("functions.read",), "created_at": NOW, "updated_at": NOW}
        | fields
    )


def job(id: str = "j", project_id: str = "p", **fields: Any) -> Job:
    return Job(
        **{"id": id, "kind": "build", "project_id": project_id, "resource_id": "d", "created_at": NOW}
        | {"due_at": NOW, "deadline_at": NOW + timedelta(hours=1)}
        | fields
    )


def rule(id: str = "r", project_id: str = "p", **fields: Any) -> Rule:
    return Rule(
        **{"id": id, "project_id": project_id, "created_at": NOW, "updated_at": NOW}
        | {"domain": f"{id}.{project_id}.functions.localhost", "type": "deployment"}
        | {"resource_type": "function", "resource_id": "f"}
        | fields
    )


def platform(id: str = "w", project_id: str = "p", **fields: Any) -> Platform:
    return Platform(
        **{"id": id, "project_id": project_id, "created_at": NOW, "updated_at": NOW}
        | {"type": "web", "name": "App", "identifier": "app.example.com"}
        | fields
    )


def webhook(id: str = "h", project_id: str = "p", **fields: Any) -> Webhook:
    return Webhook(
        **{"id": id, "project_id": project_id, "created_at": NOW, "updated_at": NOW, "name": "Hook"}
        | {"url": "https://example.com/hook", "events": ("users.*.create",), "secret": "signature"}
        | fields
    )

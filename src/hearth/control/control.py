"""All use cases together, as the API sees them."""

from dataclasses import dataclass
from typing import Protocol

from hearth.control.bodies import BodiesControl
from hearth.control.connections import Connections
from hearth.control.dead_letters import DeadLettersControl
from hearth.control.deployments import DeploymentsControl
from hearth.control.events import EventBus
from hearth.control.executions import ExecutionsControl
from hearth.control.function_settings import FunctionSettingsControl
from hearth.control.functions import FunctionsControl
from hearth.control.git_deployments import GitDeployments
from hearth.control.idempotency import Idempotency
from hearth.control.installations import InstallationsControl
from hearth.control.keys import KeysControl
from hearth.control.logs import LogsControl
from hearth.control.people import PeopleControl
from hearth.control.platforms import OriginBook, PlatformsControl
from hearth.control.project_variables import ProjectVariablesControl
from hearth.control.projects import ProjectsControl
from hearth.control.pushes import Pushes
from hearth.control.replays import ReplaysControl
from hearth.control.rules import RuleBook, RulesControl
from hearth.control.specifications import Specifications
from hearth.control.usage import UsageControl
from hearth.control.variables import VariablesControl
from hearth.control.webhooks import WebhooksControl
from hearth.ports import Runtimes


class Health(Protocol):
    """Whether the parts a request needs answer. `ping` raises with the reason when one does not."""

    async def ping(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Control:
    """One object per use-case module."""

    projects: ProjectsControl
    keys: KeysControl
    platforms: PlatformsControl
    project_variables: ProjectVariablesControl
    rules: RulesControl
    webhooks: WebhooksControl
    events: EventBus
    rule_book: RuleBook
    origin_book: OriginBook
    functions: FunctionsControl
    function_settings: FunctionSettingsControl
    variables: VariablesControl
    deployments: DeploymentsControl
    git_deployments: GitDeployments
    installations: InstallationsControl
    connections: Connections
    pushes: Pushes
    executions: ExecutionsControl
    logs: LogsControl
    dead_letters: DeadLettersControl
    bodies: BodiesControl
    replays: ReplaysControl
    usage: UsageControl
    idempotency: Idempotency
    people: PeopleControl
    runtimes: Runtimes
    specifications: Specifications
    health: Health

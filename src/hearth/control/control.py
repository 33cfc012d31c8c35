"""All use cases together, as the API sees them."""

from dataclasses import dataclass
from typing import Protocol

from hearth.control.deployments import DeploymentsControl
from hearth.control.executions import ExecutionsControl
from hearth.control.functions import FunctionsControl
from hearth.control.git_deployments import GitDeployments
from hearth.control.runnables import ProjectCache
from hearth.control.specifications import Specifications
from hearth.control.variables import VariablesControl
from hearth.ports import Runtimes


class Health(Protocol):
    """Whether the parts a request needs answer. `ping` raises with the reason when one does not."""

    async def ping(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Control:
    """One object per use-case module."""

    projects: ProjectCache
    functions: FunctionsControl
    variables: VariablesControl
    deployments: DeploymentsControl
    git_deployments: GitDeployments
    executions: ExecutionsControl
    runtimes: Runtimes
    specifications: Specifications
    health: Health

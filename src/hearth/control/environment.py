"""The environment variables of builds and runs, composed in one place (contract: functions-api 12.1).

Later wins: project variables, function variables, then the fixed list, so `APPWRITE_*` names cannot be taken
over by a user and a function's variable beats the project's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hearth import CONTRACT_VERSION
from hearth.model.resources import Deployment, Function, Variable
from hearth.model.running import Specification

#: Makes the ephemeral key of a run or build: project id, scopes, lifetime in seconds -> key text.
MintKey = Callable[[str, Sequence[str], int], str]


class Environment:
    """Composes environments. `endpoint` is the API as sandboxes reach it, `region` the name shown to code."""

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        runtimes: Sequence[Mapping[str, Any]],
        mint_key: MintKey,
    ) -> None:
        self._endpoint = endpoint
        self._region = region
        self._names = {row["$id"]: (str(row["name"]), str(row["version"])) for row in runtimes}
        self._mint_key = mint_key

    def knows(self, runtime: str) -> bool:
        """Whether the catalogue has this runtime; it may have vanished since a function was made."""
        return runtime in self._names

    def of_run(
        self,
        function: Function,
        deployment: Deployment,
        specification: Specification,
        project_variables: Iterable[Variable],
        variables: Iterable[Variable],
    ) -> dict[str, str]:
        """What an instance of `deployment` gets; equal for every run until one of the inputs changes."""
        return {
            **_values(project_variables),
            **_values(variables),
            **self._fixed(function, deployment, specification.cpus, specification.memory_mb),
            "OPEN_RUNTIMES_ENTRYPOINT": deployment.entrypoint,
            "OPEN_RUNTIMES_CPUS": f"{specification.cpus:g}",
            "OPEN_RUNTIMES_MEMORY": str(specification.memory_mb),
        }

    def of_build(
        self,
        function: Function,
        deployment: Deployment,
        cpus: float,
        memory_mb: int,
        timeout_s: int,
        project_variables: Iterable[Variable],
        variables: Iterable[Variable],
    ) -> dict[str, str]:
        """What the commands of a build get, with an API key that lives as long as the build may."""
        return {
            **_values(project_variables),
            **_values(variables),
            **self._fixed(function, deployment, cpus, memory_mb),
            "APPWRITE_FUNCTION_API_KEY": self._mint_key(function.project_id, function.scopes, timeout_s),
            "OPEN_RUNTIMES_ENTRYPOINT": deployment.entrypoint,
        }

    def _fixed(self, function: Function, deployment: Deployment, cpus: float, memory_mb: int) -> dict[str, str]:
        name, version = self._names.get(function.runtime, (function.runtime, ""))
        return {
            "APPWRITE_FUNCTION_API_ENDPOINT": self._endpoint,
            "APPWRITE_FUNCTION_ID": function.id,
            "APPWRITE_FUNCTION_NAME": function.name,
            "APPWRITE_FUNCTION_DEPLOYMENT": deployment.id,
            "APPWRITE_FUNCTION_PROJECT_ID": function.project_id,
            "APPWRITE_FUNCTION_RUNTIME_NAME": name,
            "APPWRITE_FUNCTION_RUNTIME_VERSION": version,
            "APPWRITE_FUNCTION_CPUS": f"{cpus:g}",
            "APPWRITE_FUNCTION_MEMORY": str(memory_mb),
            "APPWRITE_VERSION": CONTRACT_VERSION,
            "APPWRITE_REGION": self._region,
            "APPWRITE_DEPLOYMENT_TYPE": deployment.type,
            "APPWRITE_VCS_REPOSITORY_ID": function.provider_repository_id,
            "APPWRITE_VCS_REPOSITORY_NAME": deployment.provider_repository_name,
            "APPWRITE_VCS_REPOSITORY_OWNER": deployment.provider_repository_owner,
            "APPWRITE_VCS_REPOSITORY_URL": deployment.provider_repository_url,
            "APPWRITE_VCS_REPOSITORY_BRANCH": deployment.provider_branch,
            "APPWRITE_VCS_REPOSITORY_BRANCH_URL": deployment.provider_branch_url,
            "APPWRITE_VCS_COMMIT_HASH": deployment.provider_commit_hash,
            "APPWRITE_VCS_COMMIT_MESSAGE": deployment.provider_commit_message,
            "APPWRITE_VCS_COMMIT_URL": deployment.provider_commit_url,
            "APPWRITE_VCS_COMMIT_AUTHOR_NAME": deployment.provider_commit_author,
            "APPWRITE_VCS_COMMIT_AUTHOR_URL": deployment.provider_commit_author_url,
            "APPWRITE_VCS_ROOT_DIRECTORY": function.provider_root_directory,
        }


def _values(variables: Iterable[Variable]) -> dict[str, str]:
    return {variable.key: variable.value for variable in variables}

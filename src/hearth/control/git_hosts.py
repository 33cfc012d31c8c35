"""The git hosts of this server, by provider; what they raise becomes a refusal here, and nowhere else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hearth.model.refusals import Refusal
from hearth.model.vcs import Installation, Provider
from hearth.ports import GitHost, GitHostFailed, NoSuchRepository, Unit

GitHosts = Mapping[Provider, GitHost]


def host_of(hosts: GitHosts, provider: str) -> GitHost:
    """The host of a provider. Raises `general_provider_failure` where this server has none of it."""
    host = next((host for kind, host in hosts.items() if kind == provider), None)
    if host is None:
        raise Refusal("general_provider_failure", f"This server has no git host of the kind {provider}.")
    return host


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what a git host raises into the refusals of the contract (side-services 12)."""
    try:
        yield
    except NoSuchRepository as missing:
        raise Refusal("provider_repository_not_found", str(missing) or None) from missing
    except GitHostFailed as failed:
        raise Refusal("general_provider_failure", str(failed)) from failed


async def require_installation(unit: Unit, installation_id: str) -> Installation:
    """The installation, or the refusal `installation_not_found`."""
    installation = await unit.installations.get(installation_id) if installation_id else None
    if installation is None:
        raise Refusal("installation_not_found")
    return installation

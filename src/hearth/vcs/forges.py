"""All git hosts that have an interface over HTTP, for the composition of the server."""

from hearth.model.vcs import Provider
from hearth.outbound.caller import Caller
from hearth.ports import GitHost
from hearth.settings import Settings
from hearth.vcs.api import Api
from hearth.vcs.bitbucket import Bitbucket
from hearth.vcs.gitea import Gitea
from hearth.vcs.github import GitHub
from hearth.vcs.github_app import AppKeys, GitHubApp, read_private_key
from hearth.vcs.gitlab import GitLab


def forges(caller: Caller, keys: AppKeys | None) -> dict[Provider, GitHost]:
    """One object for each kind of host; `keys` are those of the operator's GitHub App, None = there is none."""
    api = Api(caller)
    hosts: list[GitHost] = [
        GitHub(api, GitHubApp(api, keys) if keys else None),
        Gitea(api, Provider.GITEA),
        Gitea(api, Provider.FORGEJO),
        GitLab(api),
        Bitbucket(api),
    ]
    return {host.provider: host for host in hosts}


def app_keys(settings: Settings) -> AppKeys | None:
    """The keys of the operator's GitHub App, None where none is set up. Raises ValueError for a bad private key.

    Called before the server gives its privileges up: the file may be root's alone.
    """
    if not settings.github_app_id:
        return None
    return AppKeys(
        app_id=settings.github_app_id,
        slug=settings.github_app_slug,
        private_key=read_private_key(settings.github_app_private_key_file),
        webhook_secret=settings.github_webhook_secret,
        client_id=settings.github_client_id,
        client_secret=settings.github_client_secret,
        url=settings.github_url,
    )

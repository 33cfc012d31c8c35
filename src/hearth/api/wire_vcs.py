"""Installations, and what git hosts hold, as clients see them (contract: side-services 12)."""

from hearth.api.wire import Wire
from hearth.control.installations import Detection
from hearth.model.times import to_wire
from hearth.model.vcs import Branch, Content, Installation, ProviderRepository


def installation(it: Installation, events_url: str = "", secret: str = "") -> Wire:
    """An installation, never with its credentials; the webhook's secret is shown by the call that made it only."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "provider": str(it.provider),
        "organization": it.organization,
        "providerInstallationId": it.provider_installation_id,
        "baseUrl": it.base_url,
        "repositories": it.repositories,
        "knownHosts": it.credentials.get("knownHosts", ""),
        "eventsUrl": events_url,
        "webhookSecret": secret,
    }


def repository(installation: Installation, it: ProviderRepository) -> Wire:
    """A repository at a host."""
    return {
        "id": it.id,
        "name": it.name,
        "organization": it.organization,
        "provider": str(installation.provider),
        "private": it.private,
        "defaultBranch": it.default_branch,
        "providerInstallationId": installation.provider_installation_id,
        "authorized": True,
        "pushedAt": "" if it.pushed_at is None else to_wire(it.pushed_at),
        "variables": [],
    }


def branch(it: Branch) -> Wire:
    """A branch."""
    return {"name": it.name}


def content(it: Content) -> Wire:
    """An entry of a folder."""
    return {"name": it.name, "isDirectory": it.is_directory, "size": it.size_bytes}


def detection(it: Detection) -> Wire:
    """What a folder of code is for."""
    return {"runtime": it.runtime, "entrypoint": it.entrypoint, "commands": it.commands, "variables": []}

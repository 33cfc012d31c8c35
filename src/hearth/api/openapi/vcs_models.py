"""Schemas of installations, and of what git hosts hold."""

from hearth.api.openapi.schemas import Schema, flag, listing, many, maybe_date, number, record, resource, text, texts

INSTALLATION = record(
    "A link of a project to an account on a git host.",
    {
        **resource("Installation"),
        "provider": text("Kind of git host."),
        "organization": text("The account at the host."),
        "providerInstallationId": text("What the host calls the link; empty where it has none."),
        "baseUrl": text("Where the host is."),
        "repositories": texts("Ids of repositories that are listed, where the host cannot list them itself."),
        "knownHosts": text("Keys of an ssh host that are trusted, a line each."),
        "eventsUrl": text("Where the host is to send its webhooks, in the answer that made it; empty later."),
        "webhookSecret": text("What signs them, in the answer that made it; empty later."),
    },
)

REPOSITORY = record(
    "A repository at a git host.",
    {
        "id": text("Its id there."),
        "name": text("Its name."),
        "organization": text("Its owner."),
        "provider": text("Kind of git host."),
        "private": flag("Whether it is private."),
        "defaultBranch": text("Its default branch."),
        "providerInstallationId": text("What the host calls the link."),
        "authorized": flag("Whether it can be connected; always true."),
        "pushedAt": maybe_date("When it was last pushed to, as far as the host says."),
        "variables": many({}, "Always empty."),
        "runtime": text("In lists for runtimes: the one it seems to be for, empty if that cannot be told in time."),
        "framework": text("In lists for frameworks: always empty."),
    },
    optional=("runtime", "framework"),
)

VCS_MODELS: dict[str, Schema] = {
    "installation": INSTALLATION,
    "installationList": listing("installations", "installation", "A page of installations."),
    "providerRepository": REPOSITORY,
    "providerRepositoryList": record(
        "A page of repositories.",
        {
            "total": number("How many there are, as far as the host says."),
            "runtimeProviderRepositories": many(REPOSITORY, "Those of this page, if asked for runtimes."),
            "frameworkProviderRepositories": many(REPOSITORY, "Those of this page, if asked for frameworks."),
        },
        optional=("runtimeProviderRepositories", "frameworkProviderRepositories"),
    ),
    "namespace": record("An account at a git host.", {"name": text("Its name.")}),
    "namespaceList": listing("namespaces", "namespace", "The accounts of an installation."),
    "branch": record("A branch.", {"name": text("Its name.")}),
    "branchList": listing("branches", "branch", "All branches."),
    "vcsContent": record(
        "An entry of a folder.",
        {
            "name": text("Its name."),
            "isDirectory": flag("Whether it is a folder."),
            "size": number("Bytes; 0 if not known."),
        },
    ),
    "vcsContentList": listing("contents", "vcsContent", "The entries of a folder."),
    "detectionRuntime": record(
        "What a folder of code is for.",
        {
            "runtime": text("Id of the runtime."),
            "entrypoint": text("The file to begin with; empty if it could not be told."),
            "commands": text("The commands of the build."),
            "variables": many({}, "Always empty."),
        },
    ),
    "vcsEvent": record("What became of a webhook.", {"result": text("In words.")}),
}

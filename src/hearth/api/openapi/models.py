"""Response models as JSON schemas, in the newest format: what `hearth.api.wire` and its neighbours send.

A model is written once, as its keys with type and description. Whoever adds a route with a new `model` adds its
schema here; `tests/api/test_openapi.py` compares both ways with what is really sent.
"""

from hearth.api.openapi.bodies_models import BODIES_MODELS
from hearth.api.openapi.durability_models import DURABILITY_MODELS
from hearth.api.openapi.hosting_models import HOSTING_MODELS
from hearth.api.openapi.people_models import PEOPLE_MODELS
from hearth.api.openapi.schemas import (
    Schema,
    date,
    flag,
    listing,
    many,
    maybe_date,
    number,
    record,
    reference,
    resource,
    text,
    texts,
)
from hearth.api.openapi.usage_models import USAGE_MODELS
from hearth.api.openapi.vcs_models import VCS_MODELS
from hearth.model.function_settings import Egress, MissedRuns
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, Trigger

FUNCTION = record(
    "A function.",
    {
        **resource("Function"),
        "execute": texts("Roles that may execute the function."),
        "name": text("Function name."),
        "enabled": flag("Whether users may execute it."),
        "live": flag("False when settings or variables were changed after the active deployment was built."),
        "logging": flag("Whether executions keep their logs and errors."),
        "runtime": text("Runtime ID, such as `python-3.12`."),
        "deploymentRetention": number("Days after which deployments that are not active are removed; 0 keeps them."),
        "deploymentId": text("The active deployment; empty: none."),
        "deploymentCreatedAt": maybe_date("When the active deployment was created."),
        "latestDeploymentId": text("The newest deployment; empty: none."),
        "latestDeploymentCreatedAt": maybe_date("When the newest deployment was created."),
        "latestDeploymentStatus": text("Status of the newest deployment; empty: none."),
        "scopes": texts("Scopes of the API key each execution is given."),
        "vars": many(reference("variable"), "The function's variables, secret values masked."),
        "events": texts("Events that start the function."),
        "schedule": text("CRON rule in UTC; empty: none."),
        "timeout": number("Longest time of one execution, in seconds."),
        "entrypoint": text("File that exports the handler, within the code."),
        "commands": text("Commands that build a deployment."),
        "version": text("Version of the runtime contract."),
        "installationId": text("Installation at the git host; empty: none."),
        "providerRepositoryId": text("Linked repository; empty: none."),
        "providerBranch": text("Production branch of the repository."),
        "providerRootDirectory": text("Folder of the code in the repository."),
        "providerSilentMode": flag("Whether no comments are made on commits and pull requests."),
        "providerBranches": texts("Branches whose pushes are deployed."),
        "providerPaths": texts("Paths whose changes are deployed."),
        "specification": text("CPU and memory of builds, under the name older clients know."),
        "buildSpecification": text("CPU and memory of builds."),
        "runtimeSpecification": text("CPU and memory of executions."),
        "description": text("Always empty."),
        "emailEnabled": flag("Always false."),
    },
)

FUNCTION_SETTINGS = record(
    "Settings of a function that only this server has.",
    {
        "functionId": text("Function ID."),
        "$updatedAt": maybe_date("When they were last changed."),
        "scheduleTimeZone": text("Time zone in which the function's `schedule` is read."),
        "schedulePaused": flag("Whether the schedule fires nothing."),
        "scheduleMissedRuns": text(
            "What becomes of missed planned times.", enum=[missed.value for missed in MissedRuns]
        ),
        "scheduleJitterS": number("Seconds over which functions of one planned time are spread."),
        "schedulePayload": record(
            "Request of scheduled runs.",
            {
                "body": text("Body the function is given."),
                "method": text("HTTP method the function is given."),
                "path": text("Path the function is given."),
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        ),
        "scheduleNextRuns": many(date("A planned time."), "The next planned times."),
        "retryMaxAttempts": number("Attempts of an asynchronous execution in all."),
        "retryMaxAgeS": number("Age in seconds at which an execution is not tried again."),
        "retryBackoffS": number("Seconds before the second attempt."),
        "rateLimitPerMinute": number("Runs that may begin within a minute; 0: no limit."),
        "maxConcurrency": number("Runs at one time; 0: the server's default."),
        "minInstances": number("Instances kept ready."),
        "storeBodies": flag("Whether bodies of requests and responses are kept."),
        "bodiesMaxBytes": number("Bytes of a body that are kept at most."),
        "bodiesRetentionDays": number("Days bodies are kept."),
        "executionsRetentionDays": number("Days executions are kept; 0: the server's default."),
        "executionsRetentionCount": number("Newest executions that are kept; 0: any number."),
        "egress": text("Where the code may connect to.", enum=[egress.value for egress in Egress]),
        "egressAllow": texts("What it may connect to with `egress` list."),
    },
)

VARIABLE = record(
    "A variable of builds and executions.",
    {
        **resource("Variable"),
        "key": text("Its name in the environment."),
        "value": text("Its value; always empty for a secret one."),
        "secret": flag("Whether the value can never be read back."),
        "resourceType": text("What it belongs to.", enum=["function", "project"]),
        "resourceId": text("ID of what it belongs to; empty for a project."),
        "description": text("Always empty."),
    },
)

DEPLOYMENT = record(
    "One version of a function's code, with its build.",
    {
        **resource("Deployment"),
        "type": text("Where the code came from.", enum=["manual", "cli", "vcs"]),
        "resourceId": text("Function ID."),
        "resourceType": text("What it belongs to.", const="functions"),
        "entrypoint": text("File that exports the handler."),
        "sourceSize": number("Bytes of the source archive."),
        "buildSize": number("Bytes of the build output."),
        "totalSize": number("Bytes of both."),
        "buildId": text("Always empty; kept for older clients."),
        "activate": flag("Whether it becomes the active one when its build is ready."),
        "screenshotLight": text("Always empty for functions."),
        "screenshotDark": text("Always empty for functions."),
        "status": text("How far it is.", enum=[status.value for status in DeploymentStatus]),
        "buildLogs": text("What the build has printed so far; may hold ANSI colours."),
        "buildDuration": number("Seconds the build took; 0 until it ended."),
        "providerRepositoryName": text("Name of the repository."),
        "providerRepositoryOwner": text("Owner of the repository."),
        "providerRepositoryUrl": text("Address of the repository."),
        "providerCommitHash": text("Hash of the commit."),
        "providerCommitAuthorUrl": text("Address of the commit's author."),
        "providerCommitAuthor": text("Name of the commit's author."),
        "providerCommitMessage": text("Message of the commit."),
        "providerCommitUrl": text("Address of the commit."),
        "providerBranch": text("Branch, or the reference of a template."),
        "providerBranchUrl": text("Address of the branch."),
        "chunksTotal": number("Chunks of the upload."),
        "chunksUploaded": number("Chunks that have arrived."),
    },
)

HEADER = record("One header.", {"name": text("Its name, in lower case."), "value": text("Its value.")})


def _seconds(description: str) -> Schema:
    return {"type": "number", "minimum": 0, "description": description}


EXECUTION = record(
    "The record of one run. `logs` and `errors` are empty for callers that are neither an API key nor an admin.",
    {
        **resource("Execution"),
        "$permissions": texts("Who may read it besides keys and admins."),
        "functionId": text("Function ID (response formats below 2.0.0 have no `resourceId`)."),
        "resourceId": text("Function ID."),
        "resourceType": text("What it belongs to.", const="functions"),
        "deploymentId": text("Deployment that ran; empty if none could."),
        "trigger": text("What started it.", enum=[trigger.value for trigger in Trigger]),
        "status": text("How far it is.", enum=[status.value for status in ExecutionStatus]),
        "requestMethod": text("HTTP method the function was given."),
        "requestPath": text("Path with query the function was given."),
        "requestHeaders": many(reference("header"), "Those request headers that are stored."),
        "responseStatusCode": number("Status the function answered; 0 until it ended."),
        "responseBody": text("What the function answered; only in the answer of a synchronous create."),
        "responseHeaders": many(reference("header"), "Headers the function answered; stored: only those of the body."),
        "logs": text("What the function logged; over the limit, its end."),
        "errors": text("What the function logged as errors, or why it failed; over the limit, its end."),
        "duration": _seconds("Seconds it took."),
        "scheduledAt": {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
            "description": "When it is due; null, or left out for clients that name a format, unless it is delayed.",
        },
        "queueTime": _seconds("Seconds it waited for an instance from when it was due."),
        "coldStart": flag("Whether it had to wait for a new instance."),
        "cpuTime": _seconds("Seconds of CPU time it used; left out where that is not counted."),
        "peakMemory": number("Most bytes of memory its instance had used by its end; left out where not counted."),
    },
    optional=("resourceId", "resourceType", "scheduledAt", "queueTime", "coldStart", "cpuTime", "peakMemory"),
)

RUNTIME = record(
    "A language and version functions can be written for.",
    {
        "$id": text("Runtime ID."),
        "key": text("The language."),
        "name": text("The language's name."),
        "version": text("Its version."),
        "base": text("Image the reference implementation builds upon."),
        "image": text("Image the reference implementation runs."),
        "logo": text("File name of its logo."),
        "supports": texts("Processor architectures."),
    },
)

SPECIFICATION = record(
    "A named size of builds or executions.",
    {
        "memory": number("Memory in MB."),
        "cpus": {"type": "number", "exclusiveMinimum": 0, "description": "Cores; may be a fraction."},
        "enabled": flag("Whether it can be chosen."),
        "slug": text("Its name, such as `s-1vcpu-512mb`."),
    },
)

ERROR = record(
    "Every error answer.",
    {
        "message": text("What is wrong, and what to do."),
        "code": number("The HTTP status again."),
        "type": text("The kind of error; stable, for programs."),
        "version": text("Version of the API."),
    },
)

#: Every schema of the document by name; the names are those of `Route.model`.
MODELS: dict[str, Schema] = {
    "function": FUNCTION,
    "functionList": listing("functions", "function", "A page of functions."),
    "functionSettings": FUNCTION_SETTINGS,
    "variable": VARIABLE,
    "variableList": listing("variables", "variable", "A page of variables."),
    "deployment": DEPLOYMENT,
    "deploymentList": listing(
        "deployments", "deployment", "A page of deployments; with a `select` query, only the keys asked for of each."
    ),
    "header": HEADER,
    "execution": EXECUTION,
    "executionList": listing("executions", "execution", "A page of executions."),
    "runtime": RUNTIME,
    "runtimeList": listing("runtimes", "runtime", "All runtimes."),
    "specification": SPECIFICATION,
    "specificationList": listing("specifications", "specification", "All sizes on offer."),
    "healthVersion": record("Version of the API.", {"version": text("Version of the API, such as `1.9.6`.")}),
    "healthStatus": record(
        "Whether the server is well.",
        {
            "name": text("The part that was asked."),
            "ping": number("Milliseconds it took."),
            "status": text("How it is.", enum=["pass", "fail"]),
        },
    ),
    "error": ERROR,
    **USAGE_MODELS,
    **PEOPLE_MODELS,
    **HOSTING_MODELS,
    **DURABILITY_MODELS,
    **BODIES_MODELS,
    **VCS_MODELS,
}

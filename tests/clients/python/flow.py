"""What a user does with the official Python SDK, in any of its generations; what was seen is printed as JSON.

Runs in a process of its own with the SDK's folder in PYTHONPATH: `flow.py REQUEST_JSON`.
"""

import inspect
import json
import sys
import time

from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile
from appwrite.query import Query
from appwrite.services.functions import Functions

WAIT_S = 60
METHODS = sorted(
    name
    for name, method in inspect.getmembers(Functions, inspect.isfunction)
    if not name.startswith("_") and method.__qualname__.startswith("Functions.")
)


def plain(answer):
    """Older SDKs answer with dictionaries, newer ones with models."""
    return answer.to_dict() if hasattr(answer, "to_dict") else answer


def wait(read, done, what):
    deadline = time.monotonic() + WAIT_S
    while True:
        value = read()
        if done(value):
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: {value}")
        time.sleep(0.1)


def refusal_of(action):
    try:
        action()
    except AppwriteException as error:
        return {"code": error.code, "type": error.type, "message": error.message}
    return None


class Caller:
    """Calls methods by the names of their parameters; those that this generation does not have are left out."""

    def __init__(self, service):
        self.service = service
        self.called = set()

    def has(self, method, parameter):
        return parameter in inspect.signature(getattr(Functions, method)).parameters

    def __call__(self, method, /, **named):
        self.called.add(method)
        known = {name: value for name, value in named.items() if self.has(method, name)}
        return plain(getattr(self.service, method)(**known))


def either(now, before):
    """The method under its present or its former name."""
    return now if now in METHODS else before


def active(function):
    return function.get("deploymentId", function.get("deployment"))


def main(given):
    client = Client()
    client.set_endpoint(given["endpoint"]).set_project(given["project"]).set_key(given["key"])
    call = Caller(Functions(client))
    id = given["id"]
    seen = {"version": client._global_headers["x-sdk-version"], "methods": METHODS, "progress": []}

    settings = {
        "function_id": id,
        "runtime": given["runtime"],
        "execute": ["any"],
        "entrypoint": given["entrypoint"],
        "timeout": 20,
    }
    call("create", **settings, name="Before")
    call("update", **settings, name="Flow")
    seen["function"] = call("get", function_id=id)

    for key, value, secret in (("GREETING", "before", False), ("TOKEN", "hidden", True), ("GONE", "x", False)):
        made = call("create_variable", function_id=id, variable_id="unique()", key=key, value=value, secret=secret)
        one = {"function_id": id, "variable_id": made["$id"]}
        if key == "GREETING":
            call("update_variable", **one, key=key, value="hello")
            seen["variable"] = call("get_variable", **one)
        if key == "GONE":
            call("delete_variable", **one)
    seen["variables"] = call("list_variables", function_id=id)

    def built(deployment):
        return wait(
            lambda: call("get_deployment", function_id=id, deployment_id=deployment["$id"]),
            lambda value: value["status"] in ("ready", "failed"),
            "the build",
        )

    def activated(deployment):
        if deployment["status"] != "ready":
            raise RuntimeError(f"the build failed: {deployment['buildLogs']}")
        wait(lambda: call("get", function_id=id), lambda value: active(value) == deployment["$id"], "the activation")
        return deployment

    def deploy(path):
        progress = seen["progress"].append
        code = InputFile.from_path(path)
        deployment = call("create_deployment", function_id=id, code=code, activate=True, on_progress=progress)
        return activated(built(deployment))

    def rebuild(deployment):
        method = either("create_duplicate_deployment", "create_build")
        return call(method, function_id=id, deployment_id=deployment["$id"])

    seen["small"] = deploy(given["small"])
    request = {"function_id": id, "body": "ping", "path": "/a?b=c", "method": "PUT", "headers": {"x-extra": "yes"}}
    seen["first"] = call("create_execution", **request)
    seen["large"] = deploy(given["large"])
    seen["second"] = call("create_execution", function_id=id)
    seen["read"] = call("get_execution", function_id=id, execution_id=seen["second"]["$id"])
    seen["started"] = call("create_execution", function_id=id, xasync=True)
    seen["ended"] = wait(
        lambda: call("get_execution", function_id=id, execution_id=seen["started"]["$id"]),
        lambda value: value["status"] in ("completed", "failed"),
        "the background execution",
    )
    seen["scheduled"] = call("create_execution", function_id=id, xasync=True, scheduled_at=given["scheduledAt"])

    # An earlier deployment made active again, by hand and by building it anew.
    method = either("update_function_deployment", "update_deployment")
    call(method, function_id=id, deployment_id=seen["small"]["$id"])
    seen["activated"] = active(call("get", function_id=id))
    seen["again"] = call("create_execution", **request)
    seen["duplicate"] = activated(built(rebuild(seen["small"])))

    # A build that does not end by itself is canceled.
    call("update", **settings, name="Flow", commands="sleep 60")
    endless = rebuild(seen["small"])
    method = either("update_deployment_status", "update_deployment_build")
    seen["canceled"] = call(method, function_id=id, deployment_id=endless["$id"])
    seen["afterCancel"] = active(call("get", function_id=id))

    # Queries. Page sizes, cursors and logic over four deployments and four executions.
    def deployments(*queries):
        found = call("list_deployments", function_id=id, queries=list(queries))
        return [item["$id"] for item in found["deployments"]]

    order = Query.order_asc("$createdAt")
    seen["deployments"] = deployments(order)
    seen["page"] = deployments(order, Query.limit(2), Query.offset(1))
    seen["after"] = deployments(order, Query.cursor_after(seen["deployments"][1]))
    seen["before"] = deployments(order, Query.cursor_before(seen["deployments"][1]))
    both = Query.and_queries([Query.equal("type", "manual"), Query.equal("$id", seen["large"]["$id"])])
    seen["either"] = deployments(Query.or_queries([Query.equal("status", ["canceled"]), both]))
    if given["selects"]:
        chosen = call("list_deployments", function_id=id, queries=[Query.select(["status"]), Query.limit(1)])
        seen["selected"] = sorted(chosen["deployments"][0])
    seen["uncounted"] = 0
    if call.has("list_executions", "total"):
        uncounted = call("list_executions", function_id=id, queries=[Query.limit(1)], total=False)
        seen["uncounted"] = uncounted["total"]
    newest = [Query.limit(2), Query.order_desc("$createdAt")]
    seen["executions"] = call("list_executions", function_id=id, queries=newest)
    completed = call("list_executions", function_id=id, queries=[Query.equal("status", "completed")])
    seen["completed"] = completed["total"]
    seen["functions"] = call("list", queries=[Query.equal("name", ["Flow"])], search=id)

    download = {"function_id": id, "deployment_id": seen["large"]["$id"]}
    seen["downloaded"] = len(call("get_deployment_download", **download))
    if call.has("get_deployment_download", "type"):
        seen["output"] = len(call("get_deployment_download", **download, type="output"))
    seen["runtimes"] = call("list_runtimes")["total"]
    seen["specifications"] = call("list_specifications")["total"]
    seen["refusal"] = refusal_of(lambda: call("get", function_id="missing"))
    if "create_template_deployment" in METHODS:
        template = {"repository": "templates", "owner": "appwrite", "root_directory": "node/starter"}
        version = {"version": "0.3.*", "type": "tag", "reference": "0.3.*"}
        seen["template"] = refusal_of(
            lambda: call("create_template_deployment", function_id="missing", **template, **version)
        )
        seen["vcs"] = refusal_of(lambda: call("create_vcs_deployment", function_id=id, type="branch", reference="main"))
        starter = {"owner": "hearth", "repository": "starters", "root_directory": "python", "version": "1.0.0"}
        made = {**starter, "type": "tag", "reference": "1.0.0", "activate": True}
        seen["fromTemplate"] = call("create_template_deployment", function_id=id, **made)
        branch = {"type": "branch", "reference": "main", "activate": True}
        seen["fromBranch"] = call("create_vcs_deployment", function_id=given["connected"], **branch)
    call("delete_execution", function_id=id, execution_id=seen["second"]["$id"])
    call("delete_execution", function_id=id, execution_id=seen["scheduled"]["$id"])
    call("delete_deployment", function_id=id, deployment_id=seen["small"]["$id"])
    seen["left"] = call("list_executions", function_id=id)["total"]
    call("delete", function_id=id)
    seen["deleted"] = refusal_of(lambda: call("get", function_id=id))["code"]
    seen["called"] = sorted(call.called)
    print(json.dumps(seen))


main(json.loads(sys.argv[1]))

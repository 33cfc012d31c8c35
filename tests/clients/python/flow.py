"""What a user does with the official Python SDK, in any of its generations; what was seen is printed as JSON.

Runs in a process of its own with the SDK's folder in PYTHONPATH: `flow.py REQUEST_JSON`.
"""

import json
import sys
import time

from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile
from appwrite.query import Query
from appwrite.services.functions import Functions

WAIT_S = 60


def plain(answer):
    """Older SDKs answer with dictionaries, newer ones with models."""
    return answer if isinstance(answer, dict) else answer.to_dict()


def wait(read, done, what):
    deadline = time.monotonic() + WAIT_S
    while True:
        value = plain(read())
        if done(value):
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: {value}")
        time.sleep(0.1)


def main(given):
    client = Client()
    client.set_endpoint(given["endpoint"]).set_project(given["project"]).set_key(given["key"])
    functions = Functions(client)
    id = given["id"]
    needs_variable_id = "variable_id" in functions.create_variable.__code__.co_varnames
    seen = {"version": client._global_headers["x-sdk-version"], "progress": []}

    seen["function"] = plain(
        functions.create(id, "Flow", given["runtime"], execute=["any"], entrypoint=given["entrypoint"], timeout=20)
    )
    for key, value, secret in (("GREETING", "hello", False), ("TOKEN", "hidden", True)):
        head = (id, "unique()") if needs_variable_id else (id,)
        functions.create_variable(*head, key, value, secret)
    seen["variables"] = plain(functions.list_variables(id))

    def deploy(path):
        deployment = plain(
            functions.create_deployment(
                id, InputFile.from_path(path), True, on_progress=lambda progress: seen["progress"].append(progress)
            )
        )
        built = wait(
            lambda: functions.get_deployment(id, deployment["$id"]),
            lambda value: value["status"] in ("ready", "failed"),
            "the build",
        )
        wait(lambda: functions.get(id), lambda value: value["deploymentId"] == built["$id"], "the activation")
        return built

    seen["small"] = deploy(given["small"])
    seen["first"] = plain(
        functions.create_execution(id, "ping", path="/a?b=c", method="PUT", headers={"x-extra": "yes"})
    )
    seen["large"] = deploy(given["large"])
    seen["second"] = plain(functions.create_execution(id))
    seen["read"] = plain(functions.get_execution(id, seen["second"]["$id"]))
    seen["started"] = plain(functions.create_execution(id, xasync=True))
    seen["ended"] = wait(
        lambda: functions.get_execution(id, seen["started"]["$id"]),
        lambda value: value["status"] in ("completed", "failed"),
        "the background execution",
    )
    seen["executions"] = plain(functions.list_executions(id, queries=[Query.limit(2), Query.order_desc("$createdAt")]))
    seen["functions"] = plain(functions.list(queries=[Query.equal("name", ["Flow"])], search=id))
    seen["downloaded"] = len(functions.get_deployment_download(id, seen["large"]["$id"]))
    seen["runtimes"] = plain(functions.list_runtimes())["total"]
    seen["specifications"] = plain(functions.list_specifications())["total"]
    try:
        functions.get("missing")
    except AppwriteException as error:
        seen["refusal"] = {"code": error.code, "type": error.type, "message": error.message}
    functions.delete_execution(id, seen["second"]["$id"])
    functions.delete_deployment(id, seen["small"]["$id"])
    functions.delete(id)
    try:
        functions.get(id)
    except AppwriteException as error:
        seen["deleted"] = error.code
    print(json.dumps(seen))


main(json.loads(sys.argv[1]))

"""Response formats: what an answer looks like for clients of an older version (contract: functions-api 16).

A client names its format in `x-appwrite-response-format`. Filters apply from the newest to the oldest, each for
every client below its version. No header means the newest format; one newer than the server is never rejected.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from hearth import CONTRACT_VERSION

Version = tuple[int, int, int]
Wire = dict[str, Any]
_Filter = Callable[[Wire], Wire]


@lru_cache(maxsize=256)
def parse_version(text: str) -> Version | None:
    """Read `1.9.5`; None when it is not a version (then the newest format is meant)."""
    parts = text.split(".")
    if not 1 <= len(parts) <= 3 or not all(part.isdecimal() and len(part) <= 5 for part in parts):
        return None
    numbers = [int(part) for part in parts] + [0, 0]
    return numbers[0], numbers[1], numbers[2]


_SERVER: Version = parse_version(CONTRACT_VERSION) or (0, 0, 0)


@lru_cache(maxsize=256)
def warning_for(version: Version | None) -> str:
    """Text of `x-appwrite-warning` for a client newer than the server, else `""`. Clients split it at `;`."""
    if version is None or version <= _SERVER:
        return ""
    theirs = ".".join(str(number) for number in version)
    return (
        f"This SDK was made for API version {theirs}. The server speaks {CONTRACT_VERSION} and ignores what is newer."
    )


def _without(*keys: str) -> _Filter:
    def drop(item: Wire) -> Wire:
        for key in keys:
            item.pop(key, None)
        return item

    return drop


def _renamed(names: Mapping[str, str], *dropped: str) -> _Filter:
    """Rename keys in place of the old ones, keeping the order, and drop others."""

    def rename(item: Wire) -> Wire:
        return {names.get(key, key): value for key, value in item.items() if key not in dropped}

    return rename


def _execution_sdk(item: Wire) -> Wire:
    # Some SDKs reject a null here (contract: clients 2.1); without a format header the null of 6.3 stays.
    if item.get("scheduledAt", "") is None:
        del item["scheduledAt"]
    return item


def _execution_1_4(item: Wire) -> Wire:
    return _renamed(
        {"responseStatusCode": "statusCode", "responseBody": "response", "logs": "stdout", "errors": "stderr"}
    )(item)


def _deployment_1_4(item: Wire) -> Wire:
    item = _renamed({"buildLogs": "buildStdout"})(item)
    if "buildStdout" in item:
        item["buildStderr"] = ""
    return item


def _function_1_4(item: Wire) -> Wire:
    item["schedulePrevious"] = ""
    item["scheduleNext"] = ""
    return item


def _variable_1_4(item: Wire) -> Wire:
    item["functionId"] = item.get("resourceId", "")
    return item


_NEWEST: Version = (99_999, 0, 0)
#: (below this version, model, filter), newest first.
_CHAIN: tuple[tuple[Version, str, _Filter], ...] = (
    (_NEWEST, "execution", _execution_sdk),
    ((2, 0, 0), "execution", _without("resourceId", "resourceType")),
    ((1, 9, 3), "ephemeralKey", _renamed({"secret": "jwt"})),
    ((1, 9, 0), "function", _without("buildSpecification", "runtimeSpecification")),
    (
        (1, 7, 0),
        "function",
        _renamed(
            {"deploymentId": "deployment"},
            *("deploymentCreatedAt", "latestDeploymentId", "latestDeploymentCreatedAt", "latestDeploymentStatus"),
        ),
    ),
    (
        (1, 7, 0),
        "deployment",
        _renamed(
            {"sourceSize": "size", "buildDuration": "buildTime"}, "totalSize", "screenshotLight", "screenshotDark"
        ),
    ),
    ((1, 7, 0), "variable", _without("secret")),
    ((1, 7, 0), "templateVariable", _without("secret")),
    (
        (1, 7, 0),
        "proxyRule",
        _renamed({"deploymentResourceType": "resourceType", "deploymentResourceId": "resourceId"}),
    ),
    ((1, 6, 0), "function", _without("scopes", "specification")),
    ((1, 6, 0), "execution", _without("scheduledAt")),
    ((1, 6, 0), "runtime", _without("key")),
    ((1, 4, 0), "execution", _execution_1_4),
    ((1, 4, 0), "deployment", _deployment_1_4),
    ((1, 4, 0), "function", _function_1_4),
    ((1, 4, 0), "variable", _variable_1_4),
)

#: Lists: model -> (key of the items, model of an item).
_LISTS = {
    "functionList": ("functions", "function"),
    "deploymentList": ("deployments", "deployment"),
    "executionList": ("executions", "execution"),
    "variableList": ("variables", "variable"),
    "runtimeList": ("runtimes", "runtime"),
    "proxyRuleList": ("rules", "proxyRule"),
    "templateFunctionList": ("templates", "templateFunction"),
}


@lru_cache(maxsize=1_024)
def _filters(version: Version, model: str) -> tuple[_Filter, ...]:
    return tuple(shape for below, name, shape in _CHAIN if name == model and version < below)


def shape(version: Version | None, model: str, payload: Wire) -> Wire:
    """Turn a payload of the newest format into that of `version`. May change `payload` itself."""
    if version is None:
        return payload
    if model in _LISTS:
        key, item_model = _LISTS[model]
        payload[key] = [shape(version, item_model, item) for item in payload[key]]
        return payload
    for apply in _filters(version, model):
        payload = apply(payload)
    if model == "templateFunction":
        payload["variables"] = [shape(version, "templateVariable", dict(item)) for item in payload["variables"]]
    if model == "function":
        payload["vars"] = [shape(version, "variable", item) for item in payload["vars"]]
    return payload

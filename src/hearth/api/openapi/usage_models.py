"""Schemas of usage figures, under the names of older versions of the reference."""

from hearth.api.openapi.schemas import Schema, date, many, number, record, reference, text

_SERIES = {
    "deployments": "Deployments created",
    "deploymentsStorage": "Bytes of the sources of deployments",
    "builds": "Builds begun",
    "buildsSuccess": "Builds that became ready",
    "buildsFailed": "Builds that failed",
    "buildsStorage": "Bytes of what was built",
    "buildsTime": "Seconds of builds",
    "buildsMbSeconds": "Memory times time of builds, MB times seconds",
    "executions": "Executions created",
    "executionsFailed": "Executions that failed",
    "executionsTime": "Milliseconds of executions",
    "executionsMbSeconds": "Memory times time of executions, MB times seconds",
    "executionsCold": "Executions that waited for a new instance",
    "executionsCpuTime": "Milliseconds of CPU time of executions",
}
_SECONDS: Schema = {"type": "number", "format": "double", "description": "Seconds of a build, on average."}

_SHARE: Schema = {
    "type": "number",
    "format": "double",
    "minimum": 0,
    "maximum": 1,
    "description": "The part of the executions that an instance ran which waited for a new one.",
}


def _milliseconds(share: str) -> Schema:
    what = f"Milliseconds that {share} of the executions did not exceed, to within a few tenths."
    return {"type": "number", "format": "double", "description": what}


def _usage(description: str, series: dict[str, str]) -> Schema:
    return record(
        description,
        {
            "range": text("Span of the figures.", enum=["24h", "30d", "90d"]),
            **{f"{name}Total": number(f"{what}, in the whole span.") for name, what in series.items()},
            "buildsTimeAverage": _SECONDS,
            "executionsP50": _milliseconds("half"),
            "executionsP95": _milliseconds("95 of 100"),
            "executionsColdShare": _SHARE,
            "executionsPeakMemoryMax": number("Most bytes of memory an instance used, in the whole span."),
            **{name: many(reference("metric"), f"{what}, in each step.") for name, what in series.items()},
            "executionsPeakMemory": many(reference("metric"), "Most bytes of memory an instance used, in each step."),
        },
    )


USAGE_MODELS: dict[str, Schema] = {
    "metric": record("A figure of one step.", {"value": number("The figure."), "date": date("When the step began.")}),
    "usageFunction": _usage("Usage of a function.", _SERIES),
    "usageFunctions": _usage("Usage of all functions.", {**_SERIES, "functions": "Functions created"}),
}

"""Greets the person named in the query (`/?name=Ada`) or in a JSON body (`{"name": "Ada"}`)."""

import os
import platform


def main(context):
    name = context.req.query.get("name")
    if not name and isinstance(context.req.body, dict):
        name = context.req.body.get("name")
    name = name or "World"

    context.log(f"{context.req.method} {context.req.path} for {name}")
    context.log("trigger", context.req.headers.get("x-appwrite-trigger", "none"))

    greeting = os.environ.get("GREETING", "Hi")
    return context.res.json({"message": f"{greeting}, {name}!", "python": platform.python_version()})

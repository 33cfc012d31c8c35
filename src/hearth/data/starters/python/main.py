"""A function for any Python runtime: entrypoint `main.py`, no build commands."""

from typing import Any


def main(context: Any) -> Any:
    """Answer GET / with a greeting and everything else with what it was sent."""
    request = context.req
    context.log(f"{request.method} {request.path}")
    if request.method == "GET" and request.path == "/":
        return context.res.text("Hello from your function. Send a POST to see what it receives.")
    seen = {"method": request.method, "path": request.path, "query": request.query, "body": request.body_text}
    return context.res.json(seen)

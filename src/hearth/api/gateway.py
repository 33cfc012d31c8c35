"""Which host a request is for: the API, or a function's own domain (contract: functions-api 1 check 1, 13).

No rule exists before the proxy service does, so every name below the functions domain is unknown here.
"""

from html import escape

from hearth.api.messages import HTML_TYPE, Answer
from hearth.model.refusals import Refusal

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34rem;padding:0 1rem}}</style></head>
<body><h1>{title}</h1><p>{message}</p><p><code>{type}</code></p></body></html>
"""


class Gateway:
    """Tells function domains from the API's own host names. The server never insists on its own name."""

    def __init__(self, functions_domain: str) -> None:
        self._domain = functions_domain.lower().strip(".")
        self._ending = "." + self._domain

    def is_function_host(self, host: str) -> bool:
        """Whether `host` (a Host header, with or without port) is the functions domain or below it."""
        if not self._domain or self._domain not in host.lower():
            return False
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.lower().rstrip(".")
        return name == self._domain or name.endswith(self._ending)

    def answer(self, host: str) -> Answer:
        """What a visitor of a function host gets: an HTML page, not JSON."""
        name = host.partition(":")[0].lower().rstrip(".")
        if name == self._domain:
            return _page(Refusal("general_access_forbidden", "This name serves functions; open the domain of one."))
        return _page(Refusal("rule_not_found", "No function is reachable under this domain."))


def _page(refusal: Refusal) -> Answer:
    text = _PAGE.format(title=f"{refusal.code}", message=escape(refusal.message), type=escape(refusal.type))
    return Answer(refusal.code, text.encode(), HTML_TYPE)

"""What a `user-agent` header tells of a client, as far as sessions show it. A guess: anyone may send anything.

The short codes are those of the lists the reference publishes for operating systems and clients.
"""

import re
from functools import lru_cache

#: Looked for in this order: many browsers name others, to be taken for them.
_BROWSERS = (
    ("Edg", "ED", "Microsoft Edge", "Blink"),
    ("OPR", "OP", "Opera", "Blink"),
    ("Firefox", "FF", "Firefox", "Gecko"),
    ("Chrome", "CH", "Chrome", "Blink"),
    ("Version", "SF", "Safari", "WebKit"),
)
_LIBRARIES = (
    ("AppwriteCLI", "Appwrite CLI"),
    ("AppwriteNodeJSSDK", "Appwrite Node.js SDK"),
    ("AppwritePythonSDK", "Appwrite Python SDK"),
    ("curl", "curl"),
    ("python-requests", "Python Requests"),
    ("node", "Node.js"),
)
_SYSTEMS = (
    ("Windows NT ([0-9.]+)", "WIN", "Windows"),
    ("Android ?([0-9.]*)", "AND", "Android"),
    ("(?:iPhone|CPU) OS ([0-9_]+)", "IOS", "iOS"),
    ("Mac OS X ([0-9_.]+)", "MAC", "Mac"),
    ("CrOS [^ ]+ ([0-9.]+)", "COS", "Chrome OS"),
    ("[Ll]inux()", "LIN", "GNU/Linux"),
)
_SCANNED_CHARS = 512


@lru_cache(maxsize=1_024)
def describe(user_agent: str) -> dict[str, str]:
    """The `os*`, `client*` and `device*` keys of a session, `""` where nothing is known."""
    text = user_agent[:_SCANNED_CHARS]
    return {**_system(text), **_client(text), **_device(text)}


def _system(text: str) -> dict[str, str]:
    for pattern, code, name in _SYSTEMS:
        found = re.search(pattern, text)
        if found:
            return {"osCode": code, "osName": name, "osVersion": found[1].replace("_", ".")}
    return {"osCode": "", "osName": "", "osVersion": ""}


def _client(text: str) -> dict[str, str]:
    for token, code, name, engine in _BROWSERS:
        found = re.search(rf"\b{token}[A-Za-z]*/([0-9.]+)", text)
        if found and text.startswith("Mozilla/"):
            return _named("browser", code, name, found[1], engine)
    for token, name in _LIBRARIES:
        found = re.search(rf"^{token}/([0-9.]+)", text)
        if found:
            return _named("library", "", name, found[1], "")
    return _named("", "", "", "", "")


def _named(kind: str, code: str, name: str, version: str, engine: str) -> dict[str, str]:
    return {
        "clientType": kind,
        "clientCode": code,
        "clientName": name,
        "clientVersion": version,
        "clientEngine": engine,
        "clientEngineVersion": version if engine == "Blink" else "",
    }


def _device(text: str) -> dict[str, str]:
    if "iPad" in text or ("Android" in text and "Mobile" not in text):
        name = "tablet"
    elif "iPhone" in text or "Android" in text:
        name = "smartphone"
    else:
        name = "desktop" if text.startswith("Mozilla/") else ""
    brand = "Apple" if name and re.search("iPhone|iPad|Macintosh", text) else ""
    model = "iPad" if "iPad" in text else "iPhone" if "iPhone" in text else ""
    return {"deviceName": name, "deviceBrand": brand, "deviceModel": model}

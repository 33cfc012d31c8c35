"""What is looked at after the commands: is there an output, is the entrypoint in it, does it parse."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess

from .layout import BUILD, BuildFailed, Layout

#: Folders whose files are never meant by a mistyped entrypoint.
_FOREIGN = frozenset({"node_modules", "runtime-env", "deno-cache", "vendor", "__pycache__", ".git", ".venv", "venv"})
_LISTED_MAX = 20_000
_NEAR_MAX = 5
SYNTAX_TIMEOUT_S = 10.0
_SCRIPTS = (".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".jsx")
_SUFFIXES = {
    "node": (".js", ".mjs", ".cjs", ".ts"),
    "python": (".py",),
    "bun": _SCRIPTS,
    "deno": _SCRIPTS,
    "php": (".php",),
    "ruby": (".rb",),
    "go": (".go",),
    "java": (".java",),
    "kotlin": (".kt",),
    "dart": (".dart",),
    "rust": (".rs",),
    "cpp": (".cc", ".cpp", ".cxx"),
}
_MODULE_SYNTAX = re.compile(r"^\s*(import\s*[\w{*\"']|export\s)", re.MULTILINE)

NO_OUTPUT = "Error: No build output found. Ensure your output directory isn't empty."


def output_folder(layout: Layout, directory: str) -> str:
    """The folder that becomes the artifact; raises BuildFailed if it is missing, a link, outside or empty."""
    folder = os.path.normpath(os.path.join(layout.build, directory.strip().lstrip("/")))
    is_inside = folder == layout.build or folder.startswith(layout.build + "/")
    # Equal only if no part of the way is a link.
    if not is_inside or os.path.realpath(folder) != os.path.realpath(layout.build) + folder[len(layout.build) :]:
        raise BuildFailed("output", f'{NO_OUTPUT} The output directory "{directory}" has to be a folder of the build.')
    try:
        is_empty = not os.listdir(folder)
    except OSError:
        is_empty = True
    if is_empty:
        raise BuildFailed("output", NO_OUTPUT)
    return folder


def check_entrypoint(output: str, entrypoint: str, family: str) -> str:
    """The path of the entrypoint's file; raises BuildFailed, naming files that may have been meant."""
    wanted = entrypoint.strip()
    path = os.path.join(output, wanted)
    real = os.path.realpath(path)
    if wanted and os.path.isfile(path) and real.startswith(os.path.realpath(output) + "/"):
        return path
    near = near_files(output, wanted, family)
    listed = ", ".join(f'"{name}"' for name in near)
    if not wanted:
        problem = "The function has no entrypoint."
    else:
        problem = f'The entrypoint "{wanted}" does not exist in the build output.'
    advice = f" Did you mean {listed}?" if near else ""
    raise BuildFailed(
        "entrypoint",
        f"{problem}{advice} Set the function's entrypoint to a file of the upload, as a path from its root folder.",
    )


def index_warning(output: str) -> str:
    """What to tell about static files without a first page, `""` if there is one."""
    if os.path.isfile(os.path.join(output, "index.html")):
        return ""
    return (
        "There is no index.html in the root folder of the build output: visitors of / will find nothing. "
        "OPEN_RUNTIMES_OUTPUT_DIRECTORY names the folder that becomes the output."
    )


def near_files(output: str, wanted: str, family: str) -> list[str]:
    """Files of the output that may have been meant by `wanted`, likeliest first."""
    names = _files(output)
    suffixes = _SUFFIXES.get(family, ())
    base = os.path.basename(wanted)
    found = [name for name in names if base and os.path.basename(name).lower() == base.lower()]
    found += difflib.get_close_matches(wanted, names[:2000], n=_NEAR_MAX, cutoff=0.6)
    by_base = {os.path.basename(name): name for name in reversed(names[:2000]) if name.endswith(suffixes)}
    found += [by_base[near] for near in difflib.get_close_matches(base, list(by_base), n=_NEAR_MAX, cutoff=0.6)]
    if not found:
        found = [name for name in names if "/" not in name and name.endswith(suffixes)]
    return list(dict.fromkeys(found))[:_NEAR_MAX]


def _files(root: str) -> list[str]:
    names: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _FOREIGN)
        prefix = os.path.relpath(folder, root)
        names += sorted(name if prefix == "." else f"{prefix}/{name}" for name in files)
        if len(names) > _LISTED_MAX:
            break
    return sorted(names, key=lambda name: (name.count("/"), name))


def syntax_warning(path: str, entrypoint: str, family: str, interpreter: str, temporary: str) -> str:
    """One line about a syntax error in the entrypoint, `""` if it parses or cannot be judged cheaply.

    Only a warning: the reference finds out at the execution and answers 503 there.
    """
    if family == "python" and path.endswith(".py"):
        program = "import sys;p=sys.argv[1];compile(open(p,'rb').read(),p,'exec',dont_inherit=True)"
        command = [interpreter, "-I", "-S", "-W", "ignore", "-c", program, path]
    elif family == "node" and path.endswith((".js", ".mjs", ".cjs")):
        command = [interpreter, "--check", _as_module(path, temporary)]
    elif family == "php" and path.endswith(".php"):
        command = [interpreter, "-n", "-d", "display_errors=stderr", "-d", "log_errors=0", "-l", path]
    elif family == "ruby" and path.endswith(".rb"):
        command = [interpreter, "--disable=gems", "-c", path]
    else:
        return ""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SYNTAX_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    if done.returncode == 0:
        return ""
    return f"{entrypoint} has a syntax error and will fail when executed: {_syntax_error(done.stderr)}"


def _syntax_error(stderr: bytes) -> str:
    """Kind and line of an error, from what either interpreter prints about it."""
    text = stderr.decode("utf-8", "replace")
    kind = re.search(r"^(\w*Error: .*)$", text, re.MULTILINE)
    if kind is None and (other := re.search(r"^(?:Parse error: (.*) in|/[^:]*:\d+: (.*))", text, re.MULTILINE)):
        place = re.search(r"(?: on line |^/[^:]*:)(\d+)", text, re.MULTILINE)
        return f"{other.group(1) or other.group(2)} (line {place.group(1) if place else '?'})"
    message = kind.group(1) if kind else "it cannot be parsed"
    # Python names the file last, below its own frames; Node.js first, above them.
    lines = re.findall(r'", line (\d+)', text)[-1:] or re.findall(r"^/.*:(\d+)$", text, re.MULTILINE)[:1]
    return f"{message} (line {lines[0]})" if lines else message


def _as_module(path: str, temporary: str) -> str:
    """A path under which Node.js checks `path` as the kind of module it is.

    `node --check` takes a .js file that both lacks a package type and has a mistake for valid; by its ending it
    does not.
    """
    if not path.endswith(".js"):
        return path
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    is_module = _package_type(path) == "module" or _MODULE_SYNTAX.search(text) is not None
    copy = os.path.join(temporary, "entrypoint-check" + (".mjs" if is_module else ".cjs"))
    with open(copy, "w", encoding="utf-8") as file:
        file.write(text)
    return copy


def _package_type(path: str) -> str:
    """`type` of the nearest package.json above a file, as Node.js looks for it."""
    folder = os.path.dirname(path)
    while True:
        package = os.path.join(folder, "package.json")
        if os.path.isfile(package):
            try:
                with open(package, encoding="utf-8") as file:
                    described = json.load(file)
            except (OSError, ValueError):
                return ""
            return str(described.get("type", "")) if isinstance(described, dict) else ""
        parent = os.path.dirname(folder)
        if parent == folder or folder == BUILD:
            return ""
        folder = parent

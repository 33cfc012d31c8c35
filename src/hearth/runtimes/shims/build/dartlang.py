"""Compiles a Dart function together with our server into one program (contract: runtime-contract 7).

Nothing is written into the source but what Dart's package manager makes of a `pubspec.yaml`.
"""

from __future__ import annotations

import json
import os
import re
import shlex

from .layout import BuildFailed, Layout

#: The program, relative to the output (see `hearth.runtimes.families.BINARY`).
BINARY = ".hearth/handler"
#: Where our sources are: files of this package's sibling folder.
SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "dart")
#: What the package manager leaves: where each package is.
PACKAGES = os.path.join(".dart_tool", "package_config.json")
#: The language of code that does not say its own: later ones refuse `main(final context)`, which the contract shows.
LANGUAGE = "3.11"
_MAIN = """import {handler} as handler;
import {server};

void main() => serve(handler.main);
"""


def dart_environment(layout: Layout) -> dict[str, str]:
    """Variables of every command of a Dart build; the function's own count more."""
    return {"PUB_CACHE": os.path.join(layout.home, ".pub-cache"), "PUB_ENVIRONMENT": "hearth"}


def compile_command(layout: Layout, output: str, entrypoint: str, interpreter: str, _runtime: str = "") -> str:
    """Write the program's beginning and return the command that compiles it into `output`. Raises BuildFailed."""
    dart = [interpreter, "--suppress-analytics"]
    main = os.path.join(layout.home, "hearth-main.dart")
    server = _literal("file://" + os.path.join(SOURCES, "server.dart"))
    with open(main, "w", encoding="utf-8") as file:
        file.write(_MAIN.format(handler=_literal(_library(layout.build, entrypoint)), server=server))
    program = os.path.join(output, BINARY)
    os.makedirs(os.path.dirname(program), exist_ok=True)
    steps = []
    packages = PACKAGES
    if not os.path.isfile(os.path.join(layout.build, "pubspec.yaml")):
        packages = _packages_of_none(layout)
    elif not os.path.isfile(os.path.join(layout.build, PACKAGES)):
        steps.append(shlex.join([*dart, "pub", "get"]))
    words = [*dart, "compile", "exe", "--verbosity=warning", f"--packages={packages}", "-o", program, main]
    return " && ".join([*steps, shlex.join(words)])


def _packages_of_none(layout: Layout) -> str:
    """A file that says which language the code of a function without a pubspec.yaml is in."""
    package = {
        "name": "handler",
        "rootUri": f"file://{layout.build}",
        "packageUri": "lib/",
        "languageVersion": LANGUAGE,
    }
    path = os.path.join(layout.home, "hearth-packages.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"configVersion": 2, "packages": [package]}, file)
    return path


def _library(build: str, entrypoint: str) -> str:
    """How the program imports the entrypoint: in `lib` of a package, as other files of the package may import it."""
    path = os.path.normpath(entrypoint)
    name = _package(build)
    if name and path.startswith("lib" + os.sep):
        return f"package:{name}/{path[len('lib/') :]}"
    return "file://" + os.path.join(build, path)


def _package(build: str) -> str:
    """The name of the function's package, `""` if it is none. Raises BuildFailed."""
    try:
        with open(os.path.join(build, "pubspec.yaml"), encoding="utf-8") as file:
            found = re.search(r"""^name:\s*["']?([A-Za-z_]\w*)""", file.read(), re.MULTILINE)
    except FileNotFoundError:
        return ""
    if found is None:
        raise BuildFailed("dart", "The pubspec.yaml names no package. Add a line such as `name: handler`.")
    return found.group(1)


def _literal(text: str) -> str:
    """A string of Dart's."""
    return json.dumps(text).replace("$", "\\$")

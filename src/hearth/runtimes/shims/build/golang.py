"""Compiles a Go function together with our server into one program (contract: runtime-contract 7, hook `compile`).

Nothing is written into the source: our files appear in the build by `go build -overlay`, as a package of the
function's own module, so that its requirements, vendor folder and replacements hold as they are. The types module of
handlers is replaced by ours. Package `os` gets two hooks, so that native output finds its execution; a version of Go
in which they have no place is built without, and then runs one request at a time.
"""

from __future__ import annotations

import json
import os
import re
import shlex

from .layout import BuildFailed, Layout, own_file

#: The folder that our files seem to be in, below the build area.
PACKAGE = "hearth-instance"
#: The program, relative to the output (see `hearth.runtimes.families.BINARY`).
BINARY = ".hearth/handler"
#: Below the toolchain: a cache with the standard library, compiled when it was installed (`hearth.runtimes.prebuilt`).
PREBUILT = "hearth-cache"
TYPES = "github.com/open-runtimes/types-for-go/v4"
#: Where our sources are: files of this package's sibling folder.
SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "go")

_WRITE = "\nfunc (f *File) Write(b []byte) (n int, err error) {\n"
_EXIT = "\nfunc Exit(code int) {\n"
_WRITE_HOOK = "\tif HearthWrite != nil && f != nil && HearthWrite(f, b) {\n\t\treturn len(b), nil\n\t}\n"
_EXIT_HOOK = "\tif HearthExit != nil {\n\t\tHearthExit(code)\n\t}\n"


def go_environment(layout: Layout) -> dict[str, str]:
    """Variables of every command of a Go build; the function's own count more."""
    return {
        "GOTOOLCHAIN": "local",  # another version is another runtime
        "GOTELEMETRY": "off",
        "GOFLAGS": "-modcacherw",
        "GOPATH": os.path.join(layout.home, "go"),
        "CGO_ENABLED": "0",
    }


def seed_cache(layout: Layout, interpreter: str) -> None:
    """Let the toolchain's cache of this build begin with what was compiled ahead, by links: nothing of it can change.

    Where an earlier build's cache was restored, links in it may lead nowhere any more: they are made anew.
    """
    prebuilt = os.path.join(os.path.dirname(os.path.dirname(interpreter)), PREBUILT)
    own = os.path.join(layout.home, ".cache", "go-build")
    for name in _entry_folders(own):
        for entry in os.listdir(os.path.join(own, name)):
            if os.path.islink(os.path.join(own, name, entry)):
                os.unlink(os.path.join(own, name, entry))
    for name in _entry_folders(prebuilt):
        os.makedirs(os.path.join(own, name), exist_ok=True)
        for entry in os.listdir(os.path.join(prebuilt, name)):
            if not os.path.lexists(os.path.join(own, name, entry)):
                os.symlink(os.path.join(prebuilt, name, entry), os.path.join(own, name, entry))


def _entry_folders(cache: str) -> list[str]:
    """The folders of a cache of the toolchain that hold its entries: `00` to `ff`."""
    try:
        return sorted(name for name in os.listdir(cache) if re.fullmatch("[0-9a-f]{2}", name))
    except OSError:
        return []


def compile_command(layout: Layout, output: str, entrypoint: str, interpreter: str, _runtime: str = "") -> str:
    """Prepare everything and return the command that compiles into `output`. Raises BuildFailed without a module."""
    seed_cache(layout, interpreter)
    work = os.path.join(layout.home, ".hearth-go")
    os.makedirs(work, exist_ok=True)
    module = _module(layout.build)
    folder = os.path.dirname(os.path.normpath(entrypoint))
    handler = f"{module}/{folder}" if folder else module
    replaced = _hooks(os.path.dirname(os.path.dirname(interpreter)), work)
    has_hooks = bool(replaced)
    instance = os.path.join(SOURCES, "instance")
    own = os.path.join(layout.build, PACKAGE)
    left_out = "plain.go" if has_hooks else "native.go"
    for name in sorted(os.listdir(instance)):
        if name.endswith(".go") and name != left_out:
            replaced[os.path.join(own, name)] = os.path.join(instance, name)
    with open(os.path.join(instance, "handler.go.in"), encoding="utf-8") as file:
        call = file.read().replace("HANDLER", handler)
    replaced[os.path.join(own, "handler.go")] = own_file(work, "handler.go", call)
    words = ["go", "build", "-buildvcs=false", "-ldflags=-s -w"]
    if os.path.isfile(os.path.join(layout.build, "vendor", "modules.txt")):
        replaced.update(_vendored_types(layout.build))
    else:
        words += ["-mod=mod", f"-modfile={_modfile(layout.build, work)}"]
    overlay = own_file(work, "overlay.json", json.dumps({"Replace": replaced}))
    program = os.path.join(output, BINARY)
    return shlex.join([*words, f"-overlay={overlay}", "-o", program, f"./{PACKAGE}"])


def _module(build: str) -> str:
    """The name of the function's module."""
    try:
        with open(os.path.join(build, "go.mod"), encoding="utf-8") as file:
            found = re.search(r'^module\s+"?([^\s"]+)"?', file.read(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    if found is None:
        raise BuildFailed(
            "go",
            "There is no go.mod that names a module in the function's root folder. Add one: "
            "`go mod init openruntimes/handler`.",
        )
    return found.group(1)


def _hooks(root: str, work: str) -> dict[str, str]:
    """The changed files of package os; none if this version of Go has no place for the hooks."""
    package = os.path.join(root, "src", "os")
    replaced = {os.path.join(package, "hearth.go"): os.path.join(SOURCES, "instance", "hooks.go.in")}
    for name, place, hook in (("file.go", _WRITE, _WRITE_HOOK), ("proc.go", _EXIT, _EXIT_HOOK)):
        try:
            with open(os.path.join(package, name), encoding="utf-8") as file:
                before, found, after = file.read().partition(place)
        except OSError:
            return {}
        if not found or place in after:
            return {}
        replaced[os.path.join(package, name)] = own_file(work, f"os-{name}", before + found + hook + after)
    return replaced


def _vendored_types(build: str) -> dict[str, str]:
    """Ours in place of the vendored types module."""
    folder = os.path.join(build, "vendor", *TYPES.split("/"), "openruntimes")
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".go")]
    except OSError:
        return {}
    replaced = {os.path.join(folder, name): "" for name in names}  # "" = as if it were not there
    replaced[os.path.join(folder, "openruntimes.go")] = os.path.join(
        SOURCES, "types", "openruntimes", "openruntimes.go"
    )
    return replaced


def _modfile(build: str, work: str) -> str:
    """A copy of go.mod (and go.sum, which belongs beside it) in which the types module is ours."""
    with open(os.path.join(build, "go.mod"), encoding="utf-8") as file:
        text = file.read()
    lines = [text, f"replace {TYPES} => {os.path.join(SOURCES, 'types')}"]
    if not re.search(rf"{re.escape(TYPES)}\s+v", text):
        lines.append(f"require {TYPES} v4.0.0")
    path = own_file(work, "go.mod", "\n".join(lines) + "\n")
    sums = os.path.join(build, "go.sum")
    if os.path.isfile(sums):
        with open(sums, encoding="utf-8") as file:
            own_file(work, "go.sum", file.read())
    return path

"""What the builds of a language need beside the common steps (contract: runtime-contract 7, the table)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping

from . import cpp, dartlang, golang, jvm, rust
from .layout import Layout
from .prepare import PROBE_TIMEOUT_S

#: Families whose build compiles the code: (layout, output, entrypoint, interpreter, runtime) -> the command of it.
COMPILERS: Mapping[str, Callable[[Layout, str, str, str, str], str]] = {
    "go": golang.compile_command,
    "java": jvm.compile_command,
    "kotlin": jvm.compile_kotlin,
    "cpp": cpp.compile_command,
    "dart": dartlang.compile_command,
    "rust": rust.compile_command,
}
#: Families whose package manager reads npm's configuration of the user, and not npm's global one.
_USER_NPMRC = frozenset({"bun", "deno"})


def language_environment(
    family: str, layout: Layout, interpreter: str, registries: Mapping[str, str]
) -> dict[str, str]:
    """Variables of the commands; the function's own count more. Makes what they name.

    `registries` are the variables that point package managers to the machine's configuration.
    """
    if family in _USER_NPMRC:
        _link_npmrc(layout, registries.get("NPM_CONFIG_GLOBALCONFIG", ""))
    if family == "go":
        return golang.go_environment(layout)
    if family == "dart":
        return dartlang.dart_environment(layout)
    if family == "rust":
        return rust.rust_environment(layout)
    if family == "bun":
        return {"BUN_INSTALL_CACHE_DIR": os.path.join(layout.home, ".bun-cache")}
    if family == "deno":
        # In the build, because it is needed when the function runs (contract: runtime-contract 7).
        environment = {"DENO_DIR": os.path.join(layout.build, "deno-cache"), "DENO_NO_UPDATE_CHECK": "1"}
        if "NODE_EXTRA_CA_CERTS" in registries:
            environment["DENO_CERT"] = registries["NODE_EXTRA_CA_CERTS"]
        return environment
    if family == "php":
        home = os.path.join(layout.home, ".composer")
        return {"COMPOSER_HOME": home, "COMPOSER_ALLOW_SUPERUSER": "1", "COMPOSER_NO_INTERACTION": "1"}
    if family == "ruby":
        return _ruby_environment(layout, interpreter)
    return {}


def compiler_installs(layout: Layout, family: str) -> bool:
    """Whether compiling fetches what the code requires, so that it is worth keeping."""
    lock = {"go": "go.sum", "rust": "Cargo.lock"}.get(family)
    return lock is not None and os.path.isfile(os.path.join(layout.build, lock))


def compile_warning(layout: Layout, family: str) -> str:
    """What to tell about the source before it is compiled, `""` for nothing."""
    return jvm.gradle_warning(layout.build) if family in ("java", "kotlin") else ""


def _ruby_environment(layout: Layout, interpreter: str) -> dict[str, str]:
    """Both `bundle install` and `gem install` put gems where the shim looks for them."""
    bundle = os.path.join(layout.build, "vendor", "bundle")
    environment = {"BUNDLE_PATH": bundle, "BUNDLE_USER_HOME": os.path.join(layout.home, ".bundle")}
    try:
        done = subprocess.run(
            [interpreter, "--disable=gems", "-rrbconfig", "-e", "print RbConfig::CONFIG['ruby_version']"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return environment  # the commands will say what is wrong with it
    environment["GEM_HOME"] = os.path.join(bundle, "ruby", done.stdout.decode("ascii", "replace"))
    return environment


def _link_npmrc(layout: Layout, npmrc: str) -> None:
    link = os.path.join(layout.home, ".npmrc")
    if npmrc and not os.path.lexists(link):
        os.symlink(npmrc, link)

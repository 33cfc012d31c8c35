"""The steps of one build, in order (contract: runtime-contract 7), and what the server is told at the end.

The server hands the request over the channel and reads one answer from it; the log goes to standard output, ours
and the commands' own. Both are a 4-byte big-endian length and that many bytes of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import cache, image, lines
from .checks import check_entrypoint, index_warning, output_folder, syntax_warning
from .commands import run_commands
from .defaults import DEFAULTS_SWITCH, default_commands
from .disk import TooMuch
from .installs import is_off, only_installs
from .languages import COMPILERS, compile_warning, compiler_installs, language_environment
from .layout import ARTIFACT, CHANNEL, BuildFailed, Layout
from .pack import pack, too_large
from .prepare import VENV, Venv, check_source, link_npm, make_venv

#: Exit codes of the build program; anything else means that it did not come to its end.
DONE, FAILED, BROKEN = 0, 1, 70
_LENGTH_BYTES = 4
_REQUEST_MAX_BYTES = 64 * 1024 * 1024
_LEFT_OUT_SHOWN = 5


def main() -> int:
    """Take the request from the channel, build, answer; returns the exit code."""
    channel = socket.socket(fileno=CHANNEL)
    os.set_inheritable(CHANNEL, False)
    os.set_inheritable(ARTIFACT, False)
    answer: dict[str, Any]
    try:
        request = _receive(channel)
        os.environ.update(request["pack_environment"])  # for what we start of the runtime ourselves
        for descriptor in _cache_of(request):
            os.set_inheritable(descriptor, False)
        done = build(request, Layout(), ARTIFACT)
        answer, code = {"ok": True, "warnings": done.warnings, "kept_bytes": done.kept_bytes}, DONE
    except BuildFailed as failed:
        answer = {"ok": False, "reason": failed.reason, "message": failed.message, "exit_code": failed.exit_code}
        code = FAILED
    except BaseException:
        answer = {"ok": False, "reason": "broken", "message": traceback.format_exc()[-4000:]}
        code = BROKEN
    sys.stdout.flush()
    data = json.dumps(answer).encode()
    channel.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    return code


def _receive(channel: socket.socket) -> Any:
    length = int.from_bytes(_exactly(channel, _LENGTH_BYTES), "big")
    if length > _REQUEST_MAX_BYTES:
        raise ValueError(f"a request of {length} bytes")
    return json.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = channel.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError("the server closed the channel")
        data += piece
    return bytes(data)


@dataclass
class Built:
    """What a successful build has to say; `kept_bytes` is the size of what it installed, kept for later builds."""

    warnings: list[str] = field(default_factory=list)
    kept_bytes: int = 0


def _cache_of(request: Mapping[str, Any]) -> list[int]:
    """The descriptors of the build cache that there are."""
    return [request[name] for name in ("restored", "kept") if request.get(name) is not None]


def build(request: Mapping[str, Any], layout: Layout, artifact: int) -> Built:
    """Run the steps; the artifact goes to the descriptor `artifact`. Raises BuildFailed.

    `request`: `family`, `runtime` (id), `interpreter`, `path` (folders), `pack_environment`, `commands`, `entrypoint`,
    `environment`, `registries` (environment), `disk_bytes`, `output_limit_bytes`, `content_bytes`; where there is a
    build cache, the descriptors `restored` and `kept` (or None) and `cache_entry_bytes`, the largest entry.
    """
    built = Built()
    warnings = built.warnings
    family, interpreter = request["family"], request["interpreter"]
    if family == image.FAMILY:
        environment = environment_of(request, layout, None)
        image.run_image_build(request["commands"], layout, environment, request["disk_bytes"])
        output = output_folder(layout, request["environment"].get("OPEN_RUNTIMES_OUTPUT_DIRECTORY", ""))
        _pack(output, artifact, request, layout, warnings)
        return built
    check_source(layout)
    commands, why = request["commands"].strip(), ""
    if not commands and not is_off(request["environment"].get(DEFAULTS_SWITCH)):
        path = os.pathsep.join([*request["path"], "/usr/bin", "/bin"])
        commands, why = default_commands(layout, family, request["entrypoint"], path)
    has_cache = bool(_cache_of(request)) and (bool(commands) or compiler_installs(layout, family))
    installs = cache.begin(layout, family, request.get("restored")) if has_cache else None
    is_install = installs is not None and only_installs(commands, layout.build, family, request["environment"])
    is_done = is_install and installs is not None and installs.complete
    venv = make_venv(layout, interpreter) if commands and family == "python" and not is_done else None
    if venv is not None and venv.warning:
        _warn(venv.warning, warnings)
    _say("Environment preparation finished.")
    if why:
        _say(
            f"No build commands are set: running `{commands}`, because {why}. "
            "To do something else, set the function's commands (`:` for nothing). "
            f"The variable {DEFAULTS_SWITCH}=off switches this off."
        )
    if installs is not None and installs.restored_bytes:
        _say(f"Restored what an earlier build installed ({installs.restored_bytes / 1_000_000:,.1f} MB).")
    if is_install and installs is not None:
        installs.note()
    _say("Build command execution started.")
    if is_done:
        _say(f"`{commands}` has nothing to add to what was restored. To run it again, build without the cache.")
    elif commands:
        environment = environment_of(request, layout, venv)
        if installs is not None and installs.restored_bytes:
            environment.setdefault("npm_config_prefer_offline", "true")
        run_commands(commands, layout, environment, request["disk_bytes"])
    _say("Build command execution finished.")
    is_complete = is_install and installs is not None and installs.is_source_untouched()
    entrypoint = request["entrypoint"]
    if family in COMPILERS:
        _compile(request, layout, warnings)
    _say("Build packaging started.")
    if venv is not None:
        venv.remove_plumbing()
    output = output_folder(layout, request["environment"].get("OPEN_RUNTIMES_OUTPUT_DIRECTORY", ""))
    if family == "static":
        warning = index_warning(output)
        if warning:
            _warn(warning, warnings)
    elif family not in COMPILERS:
        path = check_entrypoint(output, entrypoint, family)
        warning = syntax_warning(path, entrypoint, family, interpreter, layout.temporary)
        if warning:
            _warn(warning, warnings)
    _write_settings(output, request)
    _pack(output, artifact, request, layout, warnings)
    _say("Build packaging finished.")
    if installs is not None and not installs.restored_bytes and request.get("kept") is not None:
        built.kept_bytes = _keep(installs, request, is_complete)
    _say("Build finished.", lines.SUCCESS)
    return built


def _keep(installs: cache.Installs, request: Mapping[str, Any], is_complete: bool) -> int:
    """Give what was installed to later builds; whatever goes wrong with it is no matter of this build."""
    limit_bytes = request["cache_entry_bytes"]
    try:
        kept_bytes = cache.keep(installs, request["kept"], limit_bytes, complete=is_complete)
    except TooMuch:
        _say(f"What was installed is not kept for later builds: it is more than {limit_bytes / 1_000_000:,.0f} MB.")
        return 0
    except OSError:
        return 0
    if kept_bytes:
        _say(f"Kept what was installed for later builds ({kept_bytes / 1_000_000:,.1f} MB).")
    return kept_bytes


def _compile(request: Mapping[str, Any], layout: Layout, warnings: list[str]) -> None:
    """Make the program that will run, in the output. Raises BuildFailed if the code does not compile."""
    family, entrypoint = request["family"], request["entrypoint"]
    check_entrypoint(layout.build, entrypoint, family)
    output = output_folder(layout, request["environment"].get("OPEN_RUNTIMES_OUTPUT_DIRECTORY", ""))
    command = COMPILERS[family](layout, output, entrypoint, request["interpreter"], request["runtime"])
    warning = compile_warning(layout, family)
    if warning:
        _warn(warning, warnings)
    _say("Compilation started.")
    run_commands(command, layout, environment_of(request, layout, None), request["disk_bytes"])
    _say("Compilation finished.")


def environment_of(request: Mapping[str, Any], layout: Layout, venv: Venv | None) -> dict[str, str]:
    """The environment of the commands: ours for a home of their own, then the user's, then the build's plumbing.

    A user's PATH goes behind ours, so that it cannot hide the runtime.
    """
    base = {
        "HOME": layout.home,
        "TMPDIR": layout.temporary,
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "USER": "build",
        "SHELL": "/bin/bash",
        **request["pack_environment"],
        **request["registries"],
        **language_environment(request["family"], layout, request["interpreter"], request["registries"]),
    }
    path = [*request["path"], "/usr/bin", "/bin"]
    headers = os.path.join(os.path.dirname(os.path.dirname(request["interpreter"])), "include", "node", "node.h")
    if request["family"] == "node" and os.path.exists(headers):
        # Native modules are compiled with the headers at hand instead of downloading them.
        base["npm_config_nodedir"] = headers[: -len("/include/node/node.h")]
    if request["family"] == "node" and (npm := link_npm(layout, request["interpreter"])):
        path.insert(0, npm)
    user = dict(request["environment"])
    if venv is not None:
        path.insert(0, os.path.join(venv.folder, "bin"))
        base["VIRTUAL_ENV"] = venv.folder
    if "PATH" in user:
        path.append(user["PATH"])
    plumbing = {
        "PATH": os.pathsep.join(dict.fromkeys(path)),
        "OPEN_RUNTIMES_ENTRYPOINT": request["entrypoint"],
        "OPEN_RUNTIMES_OUTPUT_DIRECTORY": user.get("OPEN_RUNTIMES_OUTPUT_DIRECTORY", ""),
        "OPEN_RUNTIMES_NFT": user.get("OPEN_RUNTIMES_NFT", "disabled"),
        "OPEN_RUNTIMES_BUILD_INPUT_DIR": layout.build,
        "OPEN_RUNTIMES_BUILD_OUTPUT_DIR": layout.build,
        "OPEN_RUNTIMES_BUILD_COMPRESSION": "auto",
        "OPEN_RUNTIMES_BUILD_CACHE_ARTIFACT": "",
    }
    return {**base, **user, **plumbing}


def _write_settings(output: str, request: Mapping[str, Any]) -> None:
    """The file `.open-runtimes`, which the start reads (contract: runtime-contract 7, step 7)."""
    path = os.path.join(output, ".open-runtimes")
    if os.path.isdir(path) and not os.path.islink(path):
        raise BuildFailed("output", "The build output holds a folder named .open-runtimes, a name that is taken.")
    if os.path.lexists(path):
        os.remove(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"OPEN_RUNTIMES_ENTRYPOINT={request['entrypoint']}\n")
        file.write("OPEN_RUNTIMES_CLEANUP=\nOPEN_RUNTIMES_COMPRESSION=auto\n")


def _pack(output: str, artifact: int, request: Mapping[str, Any], layout: Layout, warnings: list[str]) -> None:
    limit_bytes = request["output_limit_bytes"]
    try:
        packed = pack(
            output,
            artifact,
            limit_bytes,
            layout.build,
            request["content_bytes"],
            may_zstd=request.get("may_zstd", False),
        )
    except OSError as error:
        # The sandbox's own limit on the size of a file is met before ours is.
        if error.errno == errno.EFBIG:
            raise too_large(limit_bytes) from error
        raise
    left_out = [name for name in packed.left_out if not name.startswith(f"{VENV}/bin/")]
    if left_out:
        shown = ", ".join(left_out[:_LEFT_OUT_SHOWN]) + (" and more" if len(left_out) > _LEFT_OUT_SHOWN else "")
        _warn(f"Left out of the build output: {shown}.", warnings)


def _say(text: str, colour: int = lines.INFO) -> None:
    sys.stdout.write(lines.line(text, colour))
    sys.stdout.flush()


def _warn(text: str, warnings: list[str]) -> None:
    warnings.append(text)
    _say(f"Warning: {text}", lines.WARNING)

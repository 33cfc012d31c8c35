"""What the end of a build's sandbox means: success, the user's fault and what to do about it, or ours."""

import json
from typing import Any

from hearth.build.sandboxed import TIMEOUT, Ran
from hearth.model.refusals import PlatformFault
from hearth.model.running import BuildRequest

BUILD_PIDS = 1024
#: Why a sandbox was ended: the server's disk was nearly full.
DISK_FULL = "full disk"
_LOST = -1  # SandboxExit.code of a sandbox nobody knows the end of


class Failed(Exception):
    """The build ends here, by the user's code or a limit; the text is for the user."""


def judged(request: BuildRequest, ran: Ran) -> tuple[str, ...]:
    """The warnings of a build that succeeded; raises Failed or PlatformFault for one that did not."""
    answer = answer_of(ran)
    if ran.exit.code == 0 and not ran.stopped and answer.get("ok") is True:
        warnings = answer.get("warnings")
        return tuple(str(item) for item in warnings[:20]) if isinstance(warnings, list) else ()
    message = str(answer.get("message", ""))
    if answer.get("reason") == "broken":
        raise PlatformFault(f"The build program failed: {message}")
    code = answer.get("exit_code")
    raise_limits(request, ran, f"Build failed with exit code {code}. " if code else "")
    if not message:
        message = f"Build ended unexpectedly with {how(ran)}. Build again; if it happens again, tell the operator."
    if ran.exit.pids_exhausted:
        message += f" It reached its limit of {BUILD_PIDS} processes and threads."
    raise Failed(message)


def raise_limits(request: BuildRequest, ran: Ran, said: str = "") -> None:
    """Raise Failed if time, memory or the server's disk ended it; `said` goes before what is said of memory.

    Raises PlatformFault if the sandbox was lost with the driver's processes.
    """
    if ran.stopped == TIMEOUT:
        raise Failed(
            f"Build timed out after {request.timeout_s:g} seconds, the limit of this server "
            "(HEARTH_BUILD_TIMEOUT). Do less in the build commands or let the operator raise it."
        )
    if ran.stopped == DISK_FULL:
        raise Failed("The disk of this server is nearly full, so the build was ended. Tell its operator.")
    if ran.exit.code == _LOST:
        raise PlatformFault("A build's sandbox was lost: the process that keeps sandboxes ended.")
    if ran.exit.out_of_memory:
        raise Failed(
            f"{said}Build ran out of memory: it may use {request.memory_mb} MB. Choose a larger build "
            "specification for the function, or use less memory in the build commands."
        )


def answer_of(ran: Ran) -> dict[str, Any]:
    """The build program's answer, `{}` if there is none that makes sense: it comes from inside."""
    try:
        parsed = json.loads(ran.answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def how(ran: Ran) -> str:
    """How a sandbox ended, in words."""
    return f"exit code {ran.exit.code}" if ran.exit.signal is None else f"signal {ran.exit.signal}"

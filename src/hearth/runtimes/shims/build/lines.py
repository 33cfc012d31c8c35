"""The platform's own lines in a build log, in the reference's form (contract: runtime-contract 7)."""

import time

INFO = 97
ERROR = 31
SUCCESS = 32
WARNING = 33


def line(text: str, colour: int = INFO) -> str:
    """One log line: `[HH:MM:SS] [open-runtimes] text`, UTC, in ANSI colours, with its newline."""
    clock = time.strftime("[%H:%M:%S]", time.gmtime())
    return f"\x1b[90m{clock} \x1b[31m[\x1b[0mopen-runtimes\x1b[31m]\x1b[{colour}m {text} \x1b[0m\n"

"""`hearth` with a bug planted on purpose, for the suite to notice: `planted.py BUG serve ...`. For tests only."""

import sys
from collections.abc import Callable

from hearth.cli.main import main
from hearth.jobs.reaper import Reaper
from hearth.model.resources import Execution
from hearth.store.intents import IntentFile


def reaper_off() -> None:
    """What a lost owner held is taken up by nobody."""

    async def nothing(self: Reaper) -> None:
        """In place of a round."""

    Reaper.at_start = nothing  # type: ignore[method-assign]
    Reaper.start = lambda self: None  # type: ignore[method-assign]


def intents_forgotten() -> None:
    """Executions that were running when the server was killed are not recorded by the next start."""
    opened = IntentFile.open

    def forget(self: IntentFile) -> tuple[Execution, ...]:
        opened(self)
        return ()

    IntentFile.open = forget  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {"reaper-off": reaper_off, "intents-forgotten": intents_forgotten}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    main()

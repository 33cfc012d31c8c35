"""`hearth quickstart`: a server, the examples on it, their results in one table.

The command line of it is `hearth.cli.main`; the steps for one example are `hearth.cli.example_runs`.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from hearth.cli.examples import BadExample, load_examples
from hearth.cli.server_child import (
    Interrupted,
    NotReady,
    ServerChild,
    passing_signals_on,
    refuse_busy_port,
)

if TYPE_CHECKING:
    from hearth.cli.example_runs import Credentials, ExampleRun

BUILD_WAIT_S = 240.0
STOP_WAIT_S = 60.0  # the server's own grace period and what it takes to end everything after it
BODY_CHARS = 60
WIDE_COLUMNS = 120
PIPED_COLUMNS = 140  # of a log file or a pipe, where nothing wraps
SERVER_LINES = 15
SERVER_CHARS = 4_000
EXIT_FAILED = 1
EXIT_NOT_ALLOWED = 78


def run_quickstart(
    serve_argv: Sequence[str],
    *,
    host: str,
    port: int,
    data_dir: Path,
    examples_dir: Path,
    runtimes: Sequence[str],
    once: bool,
    console: Console | None = None,
) -> int:
    """Start a server, deploy and run the examples on it, then serve until SIGINT or SIGTERM; the exit code.

    `serve_argv` is the whole command of the server and has to agree with `host`, `port` and `data_dir`. `runtimes`
    are the ids of the runtimes that can run here. With `once` the server is stopped after the results: 0, or 1 if
    any example failed. Without it the failures are shown, and the code is the server's. A server that does not come
    up gives its own exit code. Call it from the main thread: it handles signals.
    """
    console = console or _console()
    try:
        import hearth.cli.example_runs  # noqa: F401 - the SDK is an optional dependency: say so before any work
    except ModuleNotFoundError as error:
        console.print(f"[red]The package {error.name} is missing.[/] Install it: pip install 'hearth\\[quickstart]'")
        return EXIT_NOT_ALLOWED
    endpoint = f"http://{_reachable(host)}:{port}/v1"
    try:
        refuse_busy_port(host, port)
        server = ServerChild(serve_argv)
    except (NotReady, OSError) as error:
        console.print(f"[red]The server could not be started:[/] {escape(str(error))}", soft_wrap=True)
        return error.exit_code if isinstance(error, NotReady) else EXIT_FAILED
    with passing_signals_on(server):
        try:
            failed = _try_examples(server, endpoint, data_dir, examples_dir, runtimes, console)
            if failed:
                console.print(
                    f"The server said last:\n{escape(server.last_lines(SERVER_LINES)[-SERVER_CHARS:])}", soft_wrap=True
                )
            if once:
                code = server.stop(STOP_WAIT_S)
                if code != 0:
                    console.print(
                        f"[red]The server ended with exit code {code}.[/]\n{escape(server.last_lines())}",
                        soft_wrap=True,
                    )
                return EXIT_FAILED if failed or code != 0 else 0
            console.print(f"\nServing at [bold]{endpoint}[/]; credentials in {data_dir / 'credentials.json'}.")
            console.print("Ctrl-C stops.")
            server.show_output()
            return server.wait()
        except Interrupted:
            server.show_output()
            return server.wait()
        except NotReady as error:
            console.print(f"[red]The server could not be started:[/] {escape(str(error))}", soft_wrap=True)
            return error.exit_code
        finally:
            with contextlib.suppress(Interrupted):
                server.stop(STOP_WAIT_S)


def quickstart(
    credentials: "Credentials",
    examples_dir: Path,
    console: Console,
    *,
    runtimes: Sequence[str],
    build_wait_s: float = BUILD_WAIT_S,
) -> "list[ExampleRun]":
    """Deploy the examples on a running server, run each twice and print the table; safe to repeat.

    Functions that are there with the same code and settings are only executed. Raises BadExample when the examples'
    own files are at fault; a failed example is an `ExampleRun` with a `failure`.
    """
    from hearth.cli.example_runs import ExampleDeployer, ExampleRun

    runs = [ExampleRun(example) for example in load_examples(examples_dir)]
    deployer = ExampleDeployer(credentials, runtimes)
    with _progress(runs, console):
        for run in runs:
            deployer.deploy(run)
            if run.stage == "ready":
                console.print(f"  {run.example.id}: deployed earlier, same code")
        deployer.follow(runs, build_wait_s, lambda run: _report(run, console))
        for run in runs:
            if run.failure is None:
                run.stage = "executing"
                deployer.execute(run)
                run.stage = "done"
    console.print(results_table(runs, console.width))
    for run in runs:
        if run.failure is not None:
            console.print(f"[red]{run.example.id}:[/] {escape(run.failure)}", soft_wrap=True)
    return runs


def results_table(runs: "Sequence[ExampleRun]", columns: int) -> Table:
    """One row per example: runtime, build time, first and second execution, status and body.

    In less than `WIDE_COLUMNS` the body stands below the example's name, so that nothing is cut.
    """
    is_wide = columns >= WIDE_COLUMNS
    table = Table(title="Examples", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("example", overflow="fold")
    table.add_column("runtime", no_wrap=True)
    for name in ("build", "first\nexecution", "second\nexecution", "status"):
        table.add_column(name, justify="right", no_wrap=True)
    if is_wide:
        table.add_column("body", overflow="fold")
    for run in runs:
        body = escape(run.body if len(run.body) <= BODY_CHARS else run.body[: BODY_CHARS - 1] + "…")
        colour = "green" if run.failure is None else "red"
        status = f"{run.status or 'failed'} {run.status_code or ''}".strip()
        table.add_row(
            run.example.id if is_wide else f"{run.example.id}\n  [dim]{body}[/]",
            run.runtime or "-",
            _seconds(run.build_s) if run.built else f"earlier, {run.build_s or 0:.0f} s",
            _milliseconds(run.first_s),
            _milliseconds(run.second_s),
            f"[{colour}]{status if is_wide else status.removeprefix('completed ')}[/]",
            *([body] if is_wide else []),
        )
    return table


def read_credentials(data_dir: Path) -> "Credentials":
    """What the server wrote for its owner. Raises OSError or ValueError."""
    from hearth.cli.example_runs import Credentials

    return Credentials.from_wire(json.loads((data_dir / "credentials.json").read_text(encoding="utf-8")))


def default_examples_dir() -> Path:
    """The examples of this checkout, else those of the working folder."""
    in_checkout = Path(__file__).resolve().parents[3] / "examples"
    return in_checkout if in_checkout.is_dir() else Path("examples").resolve()


def _try_examples(
    server: ServerChild,
    endpoint: str,
    data_dir: Path,
    examples_dir: Path,
    runtimes: Sequence[str],
    console: Console,
) -> bool:
    """Wait for the server and try the examples; True if anything failed. Raises NotReady and Interrupted."""
    with console.status("Starting the server"):
        version = server.wait_until_ready(endpoint)
    console.print(f"The server is ready at {endpoint} (speaks version {version}).")
    try:
        runs = quickstart(read_credentials(data_dir), examples_dir, console, runtimes=runtimes)
    except (BadExample, OSError, ValueError) as error:
        console.print(f"[red]The examples could not be tried:[/] {escape(str(error))}", soft_wrap=True)
        return True
    return any(run.failure is not None for run in runs)


def _report(run: "ExampleRun", console: Console) -> None:
    """A lasting line at the end of a build; what happens before is shown live only."""
    if run.failure is not None:
        console.print(f"  {run.example.id}: [red]build failed[/]")
    elif run.stage == "ready":
        console.print(f"  {run.example.id}: built in {_seconds(run.build_s)}")


@contextlib.contextmanager
def _progress(runs: "Sequence[ExampleRun]", console: Console) -> Iterator[None]:
    """Show each unfinished example with a spinner and the last line of its build log, until the context ends."""
    spinners = {run.example.id: Spinner("dots") for run in runs}

    def rows() -> Table:
        table = Table.grid(padding=(0, 1))
        for run in runs:
            if run.failure is None and run.stage not in ("ready", "done"):
                waited = f"{time.monotonic() - run.started:.0f} s" if run.started else ""
                line = escape(run.log_line[: max(console.width - 55, 20)])
                table.add_row(
                    spinners[run.example.id], run.example.id, f"[cyan]{run.stage}[/]", waited, f"[dim]{line}[/]"
                )
        return table

    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=rows, console=console, refresh_per_second=8, transient=True):
        yield


def _console() -> Console:
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=PIPED_COLUMNS)


def _reachable(host: str) -> str:
    """The address a client on this machine uses for a server listening on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.1f} ms"

"""What the commands write: results to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

OK: Final = 0
# The command has done its work, and the answer is "no": a drift, or a check that failed.
FAILED: Final = 1
# The command line is wrong, or the command could not do its work.
ERROR: Final = 2
INTERRUPTED: Final = 130
# For logs of CI systems, which are not limited to the 80 characters that rich assumes for a file.
WIDTH_OF_A_FILE: Final = 160


def write_result(text: str) -> None:
    """Write the result of a command, which ends with a line break, to stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_message(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")


def write_error(error: object) -> None:
    """Write an error, or its text, to stderr as one line."""
    write_message("error: " + " ".join(str(error).split()))


def result_console() -> Console:
    """Return a console for tables on stdout."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE, highlight=False)


@contextmanager
def logs_to_stderr() -> Iterator[None]:
    """
    Send to stderr what others print: Airflow's loggers write to stdout, where only the result belongs.

    Import Airflow within this context, since its loggers keep the stream that they find.
    """
    # It logs each failed sign-in with a traceback. The command itself reports the error.
    botocore_log = logging.getLogger("botocore.credentials")
    level = botocore_log.level
    botocore_log.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        botocore_log.setLevel(level)


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how many items are done; yield a function to call with the name of each."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn(escape(title)),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[item]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, item="")
        yield lambda name: bar.update(task, advance=1, item=name)

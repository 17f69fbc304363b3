"""
The command ``polysync verify``: it compares what the provider believes of AWS with an account.

``verification/`` has the beliefs and their checks.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from polysync_airflow import __version__
from polysync_airflow.cli.output import (
    FAILED,
    OK,
    changed_stderr,
    logs_to_stderr,
    progress,
    result_console,
    write_message,
)
from polysync_airflow.cli.parser import Parser, add_connection

if TYPE_CHECKING:
    from polysync_airflow.exceptions import PolysyncError
    from polysync_airflow.verification.account import Account
    from polysync_airflow.verification.hook import VerifyHook
    from polysync_airflow.verification.models import Belief, Result

DESCRIPTION: Final = """\
Compare what Polysync believes of SageMaker Pipelines with an account.

The checks create pipelines whose steps start no job, so they cost nothing, with names that begin with
polysync-verify, and delete them at the end, also after Ctrl-C. Exit code 1 if something differs."""
# Not asked of AWS's price list, which needs a permission more and has its own host.
_COST: Final = """\
One processing job will run on one {instance}, for at most {minutes} minutes. It costs at most about
0.01 US dollars: this assumes 0.05 an hour, the price in us-east-1. Other regions have other prices; look up
that of {region}: https://aws.amazon.com/sagemaker/pricing/"""
# How long a list is asked for again, while AWS throttles.
_LIST_SECONDS: Final = 60.0
_HINT: Final = "Run polysync verify --clean."
_STYLES: Final = {"differs": "red", "error": "red", "not checked": "dim"}


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_connection(parser)
    parser.add_argument(
        "--role-arn",
        metavar="ARN",
        help="role of the pipelines, which needs permissions for --with-job only",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a report as JSON, for an issue")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CHECK",
        help="only this check, or those of this subject, such as stop; may be repeated",
    )
    parser.add_argument(
        "--open", action="store_true", help="print the console links, and wait until somebody has looked"
    )
    parser.add_argument(
        "--with-job", metavar="IMAGE", help="also run one processing job with this image, which costs money"
    )
    parser.add_argument(
        "--queue-url", metavar="URL", help="also check the events in this queue of polysync events setup"
    )
    parser.add_argument(
        "--simulate-policy", action="store_true", help="also ask IAM about each permission of the provider"
    )
    parser.add_argument(
        "--clean", action="store_true", help="only delete what a run has left that was killed"
    )
    return parser


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return its exit code."""
    parser = make_parser(prog)
    told = _Told()
    with changed_stderr(told.mask) as told.unmasked:
        return _run_command(parser, parser.parse_args(arguments), told)


class _Told:
    """
    What is told of a run, without what identifies the account and who has run it.

    ``unmasked`` writes to stderr as it is. ``secrets`` are those of the connection, once it is read.
    """

    unmasked: TextIO

    def __init__(self) -> None:
        self.secrets: list[str] = []

    def mask(self, text: str) -> str:
        from polysync_airflow.verification.masking import mask

        return mask(text, self.secrets)


def _run_command(parser: argparse.ArgumentParser, options: argparse.Namespace, told: _Told) -> int:
    if options.clean:
        others = ("role_arn", "report", "only", "open", "with_job", "queue_url", "simulate_policy")
        given = [f"--{name.replace('_', '-')}" for name in others if getattr(options, name)]
        if given:
            parser.error(f"--clean runs no checks: leave out {', '.join(given)}")
        return _clean(options, told)
    if not options.role_arn:
        parser.error("--role-arn is missing: give the ARN of a role that SageMaker may assume")
    return _verify(options, told)


def _verify(options: argparse.Namespace, told: _Told) -> int:
    with logs_to_stderr():
        from polysync_airflow.verification.account import Account
        from polysync_airflow.verification.arguments import check_arguments, check_region
        from polysync_airflow.verification.catalogue import choose
        from polysync_airflow.verification.runner import with_unchecked

        beliefs, chosen = choose(options.only), check_arguments(options)
        hook = _hook(options, told)
        # Before anything is created.
        hook.get_caller_identity()
        check_region(chosen, hook.client_region)
        account = Account(hook, options.role_arn, secrets.token_hex(4), chosen)
    _announce(beliefs, account)
    results: list[Result] = []
    is_complete = False
    try:
        with _interrupted_by_signals():
            try:
                _run(beliefs, account, results)
                is_complete = True
                if options.open:
                    _show_links(account, told)
            finally:
                left = _delete(account)
    finally:
        # Before the table, because whoever reads that may close the pipe.
        results = with_unchecked(beliefs, results)
        if options.report:
            _write_report(options.report, results, hook, told, is_complete=is_complete)
    _write_table(results, told)
    return _conclude(results, left)


def _announce(beliefs: Sequence[Belief], account: Account) -> None:
    from polysync_airflow.verification import definitions

    write_message(
        f"{_number(len(beliefs), 'check')} in region {account.region}. What they make has names that begin "
        f"with {account.name_of('')} and is deleted at the end."
    )
    if account.options.job_image:
        minutes = definitions.JOB_SECONDS // 60
        cost = _COST.format(instance=definitions.JOB_INSTANCE, minutes=minutes, region=account.region)
        write_message(cost)


def _run(beliefs: Sequence[Belief], account: Account, results: list[Result]) -> None:
    """Make the checks. If they are interrupted, ``results`` has those that were made."""
    from polysync_airflow.verification.runner import run

    def note(result: Result) -> None:
        results.append(result)
        on_checked(result.belief.id)

    with logs_to_stderr(), progress("Checks made:") as on_checked:
        try:
            run(beliefs, account, on_result=note)
        except KeyboardInterrupt:
            write_message("Interrupted: the checks end, and what they have made is deleted.")
            raise


def _show_links(account: Account, told: _Told) -> None:
    from polysync_airflow.exceptions import PolysyncError
    from polysync_airflow.verification.beliefs.links import links

    try:
        found = links(account)
    except PolysyncError as error:
        write_message(f"There is no link to look at: {error}")
        return
    for what, url in found.items():
        # With the account number, without which it leads nowhere.
        told.unmasked.write(f"This must show {what}:\n{url}\n")
    if sys.stdin.isatty():
        write_message("Look at it in the account, then press Enter: everything is deleted then.")
        sys.stdin.readline()


def _delete(account: Account) -> int:
    """Delete what was made, and return how many pipelines of the run are still there."""
    try:
        with logs_to_stderr():
            problems = account.clean()
    except KeyboardInterrupt:
        write_message(f"Interrupted: not everything is deleted. {_HINT}")
        raise
    return _write_problems(problems)


def _write_problems(problems: Mapping[str, PolysyncError]) -> int:
    """Write why pipelines are still there, and return how many of them should have been deleted."""
    from polysync_airflow.verification.cleaning import NotOwnError

    own = 0
    for name, problem in problems.items():
        text = " ".join(str(problem).split())
        if isinstance(problem, NotOwnError):
            write_message(f"{name} is left as it is: {text}")
        else:
            own += 1
            write_message(f"{name} is still there: {text} {_HINT}")
    return own


def _write_table(results: Sequence[Result], told: _Told) -> None:
    from rich.table import Table
    from rich.text import Text

    from polysync_airflow.verification.report import row

    table = Table()
    for title in ("Check", "Expected", "Seen", "Verdict"):
        table.add_column(title, overflow="fold", ratio=1 if title == "Verdict" else 3)
    for result in results:
        # As plain texts: AWS has written some of them.
        cells = map(Text, row(result, told.secrets))
        table.add_row(*cells, style=_STYLES.get(result.verdict.value))
    result_console().print(table)


def _write_report(
    path: Path, results: Sequence[Result], hook: VerifyHook, told: _Told, *, is_complete: bool
) -> None:
    from polysync_airflow.execution import clock
    from polysync_airflow.verification.arguments import write_report
    from polysync_airflow.verification.report import as_json

    about = {
        "polysync_airflow": __version__,
        "boto3": version("boto3"),
        "apache_airflow": version("apache-airflow"),
        "region": hook.client_region,
        "endpoint": "AWS" if hook.calls_aws else "not one of AWS",
        "sign_in": hook.auth_description,
    }
    report = as_json(results, about=about, at=clock.now(), is_complete=is_complete, secrets=told.secrets)
    write_report(path, json.dumps(report, indent=2) + "\n")
    what = "the report" if is_complete else "the report of the checks that were made. It is not complete"
    write_message(f"{path}: {what}. It has no account number and no secret.")


def _conclude(results: Sequence[Result], left: int) -> int:
    from polysync_airflow.verification.report import count, has_failed

    counted = ", ".join(f"{number} {verdict}" for verdict, number in count(results).items() if number)
    write_message(f"{_number(len(results), 'check')}: {counted}.")
    return FAILED if has_failed(results) or left else OK


def _clean(options: argparse.Namespace, told: _Told) -> int:
    with logs_to_stderr():
        from polysync_airflow.aws.retry import call_with_retry
        from polysync_airflow.execution import clock
        from polysync_airflow.verification.cleaning import delete_pipelines, leftovers

        hook = _hook(options, told)
        names, is_more = call_with_retry(
            lambda: leftovers(hook), until=clock.time() + _LIST_SECONDS, warn=write_message
        )
        problems = delete_pipelines(hook, names)
    left = _write_problems(problems)
    deleted = _number(len(names) - len(problems), "pipeline")
    write_message(f"{deleted} deleted in region {hook.client_region}.")
    if is_more:
        write_message("There may be more: run the command again.")
    return FAILED if left or is_more else OK


def _hook(options: argparse.Namespace, told: _Told) -> VerifyHook:
    from polysync_airflow.airflow_compat.database import use_connections_of_the_database
    from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
    from polysync_airflow.verification.hook import VerifyHook

    use_connections_of_the_database()
    hook = VerifyHook(options.conn_id, options.region, config=RATE_LIMITED_CONFIG)
    told.secrets += hook.secrets
    return hook


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, do what Ctrl-C does: the end deletes what was made."""

    def interrupt(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

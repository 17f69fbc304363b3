"""
The command ``polysync verify``: it compares what is believed of AWS with an account.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TextIO, cast

from sagemaker_emulator.arguments import ERROR, Parser
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.calls import Calls
from sagemaker_emulator.verify.cleaning import NotOwnError, delete_pipelines, leftovers
from sagemaker_emulator.verify.definitions import JOB_INSTANCE, JOB_SECONDS
from sagemaker_emulator.verify.models import (
    AWS_ERRORS,
    Belief,
    Result,
    VerifyError,
    choose,
)
from sagemaker_emulator.verify.report import (
    as_json,
    has_failed,
    in_words,
    mask,
    summary,
)
from sagemaker_emulator.verify.runner import run, with_unchecked
from sagemaker_emulator.verify.scenarios.links import links
from sagemaker_emulator.verify.session import sign_in

OK = 0
FAILED = 1
INTERRUPTED = 130
#: The Airflow connection of ``polysync`` commands.
DEFAULT_CONNECTION: Final = "polysync_default"
DESCRIPTION: Final = """\
Compare what Polysync believes of SageMaker Pipelines with an account.

The checks create pipelines whose steps start no job, so they cost nothing, with names
that begin with polysync-verify, and delete them at the end, also after Ctrl-C. Exit
code 1 if something differs."""
# AWS's price list is not asked: it needs another permission, and has its own host.
_COST: Final = f"""\
One processing job will run on one {JOB_INSTANCE}, for at most {JOB_SECONDS // 60}
minutes; a second one, if AWS does not reuse the result of the first. Each costs at most
about 0.01 US dollars: this assumes 0.05 an hour, the price in us-east-1. Other regions
have other prices:
https://aws.amazon.com/sagemaker/pricing/"""
_HINT: Final = "Run polysync verify --clean."
_PACKAGES: Final = (
    "polysync-airflow",
    "sagemaker-pipelines-emulator",
    "boto3",
    "apache-airflow",
)
# The partitions of AWS with a public console:
# https://docs.aws.amazon.com/general/latest/gr/rande.html
AWS_ENDPOINT: Final = r"https://[^/]+\.(amazonaws\.(com|com\.cn|eu)|api\.(aws|amazonwebservices\.(com\.cn|eu)))/?"
_ROLE: Final = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+"
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html
_QUEUE: Final = r"https?://(?:sqs(?:-fips)?\.([a-z0-9-]+)\.)?[A-Za-z0-9.:-]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AppSpecification.html
_IMAGE: Final = r"\S{1,255}"
_FORMS: Final = {
    _ROLE: "the ARN of a role: give arn:aws:iam::<12-digit account>:role/<name>",
    _IMAGE: (
        "the URI of an image: give one of at most 255 characters without spaces that"
        " the role may pull"
    ),
    _QUEUE: (
        "the URL of a standard queue: give"
        " https://sqs.<region>.amazonaws.com/<account>/<name>"
    ),
}


def _matching(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not {_FORMS[pattern]}")
    return text


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not os.access(path.resolve().parent, os.W_OK):
        raise argparse.ArgumentTypeError(
            f"{text} cannot be written: give a file in a folder that exists"
        )
    return path


def make_parser(
    prog: str, connection_id: str | None = DEFAULT_CONNECTION
) -> argparse.ArgumentParser:
    """
    Return the parser of the command.

    :param connection_id: the Airflow connection that is used by default; None for
        boto3's credentials.
    """
    parser = Parser(prog=prog, description=DESCRIPTION)
    add = parser.add_argument
    default = connection_id or "none, but the credentials of boto3"
    add(
        "--conn-id",
        default=connection_id,
        metavar="ID",
        help=f"Airflow connection (default: {default})",
    )
    add(
        "--region",
        metavar="REGION",
        help="AWS region (default: that of the connection)",
    )
    add(
        "--role-arn",
        type=partial(_matching, _ROLE),
        metavar="ARN",
        help="role of the pipelines, which needs permissions for --with-job only",
    )
    add(
        "--report",
        type=_file,
        metavar="FILE",
        help="write a report as JSON, for an issue",
    )
    _add_what_is_checked(parser)
    return parser


def _add_what_is_checked(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which checks are made."""
    add = parser.add_argument
    add(
        "--only",
        action="append",
        default=[],
        metavar="CHECK",
        help=(
            "only this check, or those of this subject, such as stop; money: those on"
            " which money depends; unconfirmed: those without a source"
        ),
    )
    add(
        "--verbose",
        action="store_true",
        help="write a line for each check, with what was seen",
    )
    add(
        "--open",
        action="store_true",
        help="print the console links, and wait until somebody has looked",
    )
    add(
        "--with-job",
        type=partial(_matching, _IMAGE),
        metavar="IMAGE",
        help="also run one processing job with this image, which costs money",
    )
    add(
        "--queue-url",
        type=partial(_matching, _QUEUE),
        metavar="URL",
        help="also check the events in this queue, which rules of EventBridge fill",
    )
    add(
        "--simulate-policy",
        action="store_true",
        help="also ask IAM about each permission of the provider",
    )
    add(
        "--clean",
        action="store_true",
        help="only delete what a run has left that was killed",
    )


class _Masked(io.TextIOBase):
    """
    A stream that writes to another one, without what identifies the account and who
    uses it.

    ``secrets`` are those of the session. There are none before the sign-in.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.secrets: list[str] = []

    def write(self, text: str) -> int:
        self.stream.write(mask(text, self.secrets))
        return len(text)

    def isatty(self) -> bool:
        return self.stream.isatty()


def main(
    arguments: Sequence[str], prog: str, connection_id: str | None = DEFAULT_CONNECTION
) -> int:
    """
    Run the command.

    :param arguments: the command-line arguments.
    :param prog: the name of the command in its messages.
    :param connection_id: as in ``make_parser``.
    :return: the exit code.
    """
    parser = make_parser(prog, connection_id)
    stderr = _Masked(sys.stderr)
    with redirect_stderr(cast("TextIO", stderr)):
        options = parser.parse_args(arguments)
        used = {
            f"--{name.replace('_', '-')}": value
            for name, value in vars(options).items()
            if value
        }
        if options.clean:
            allowed = ("--clean", "--conn-id", "--region", "--output")
            others = [name for name in used if name not in allowed]
            if others:
                parser.error(f"--clean runs no checks: leave out {', '.join(others)}")
        elif not options.role_arn:
            parser.error(
                "--role-arn is missing: give the ARN of a role that SageMaker may"
                " assume"
            )
        try:
            if options.clean:
                return _clean(options, stderr)
            return _verify(options, used, stderr)
        except (*AWS_ERRORS, VerifyError) as error:
            _write(f"error: {' '.join(str(error).split())}")
            return ERROR
        except KeyboardInterrupt:
            _write("error: interrupted")
            return INTERRUPTED
        except Exception as error:
            # The caller writes it.
            error.args = tuple(mask(str(part), stderr.secrets) for part in error.args)
            raise


def _write(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _number(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"


def _verify(
    options: argparse.Namespace, used: Mapping[str, Any], stderr: _Masked
) -> int:
    """
    Make the checks, delete what they have made, and write the results.

    :param used: the options on the command line, with their values.
    :return: the exit code.
    """
    beliefs = choose(options.only)
    session = sign_in(options.conn_id, options.region)
    stderr.secrets = session.secrets
    account = Account(session, options.role_arn, secrets.token_hex(4), used)
    _announce(beliefs, account)
    results: list[Result] = []
    is_complete = False
    # SIGTERM, and the end of the terminal, have the effect of Ctrl-C: the run ends, and
    # what it has made is deleted.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        try:
            _run(beliefs, account, results)
            is_complete = True
            if options.open:
                _show_links(account, stderr.stream)
        finally:
            left = _delete(account)
    finally:
        # Before the summary, because whoever reads that may close the pipe.
        results = with_unchecked(beliefs, results)
        report = _report(results, account, is_complete=is_complete)
        if options.report:
            _write_report(options.report, report)
    if options.output == "json":
        sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
    else:
        text = summary(
            results,
            session.secrets,
            is_aws=_is_aws(account),
            is_verbose=options.verbose,
        )
        sys.stdout.write(text)
    sys.stdout.flush()
    _write(f"{_number(len(results), 'check')}: {in_words(results)}.")
    if has_failed(results) or left:
        return FAILED
    return OK


def _announce(beliefs: Sequence[Belief], account: Account) -> None:
    """
    Write how many checks are made, and what they make.

    :raises VerifyError: the queue is in another region.
    """
    region = account.region
    queue = re.fullmatch(_QUEUE, account.options.get("--queue-url", ""))
    # A rule of EventBridge sends to its own region.
    if queue and queue[1] not in (None, region):
        raise VerifyError(
            f"--queue-url is in region {queue[1]}, and the checks are made in {region}:"
            f" give a queue of that region, or --region {queue[1]}."
        )
    _write(
        f"{_number(len(beliefs), 'check')} in region {region}. What they make has names"
        f" that begin with {account.name_of('')} and is deleted at the end."
    )
    if "--with-job" in account.options:
        _write(_COST)


def _run(beliefs: Sequence[Belief], account: Account, results: list[Result]) -> None:
    """
    Make the checks, and add their results to ``results``, also if they are interrupted.
    """

    def add(result: Result) -> None:
        results.append(result)
        if sys.stderr.isatty():
            sys.stderr.write(f"\rChecks made: {len(results)}")
            if len(results) == len(beliefs):
                sys.stderr.write("\n")

    try:
        run(beliefs, account, on_result=add)
    except KeyboardInterrupt:
        _write("Interrupted: the checks end, and what they have made is deleted.")
        raise


def _show_links(account: Account, unmasked: TextIO) -> None:
    try:
        urls = links(account)
    except (*AWS_ERRORS, VerifyError) as error:
        _write(f"There is no link to look at: {error}")
        return
    for subject, url in urls.items():
        # With the account number, without which it leads nowhere.
        unmasked.write(f"This must show {subject}:\n{url}\n")
    if sys.stdin.isatty():
        _write(
            "Look at it in the account, then press Enter: everything is deleted then."
        )
        sys.stdin.readline()


def _delete(account: Account) -> int:
    """
    Delete what was made, and return how many pipelines of the run are still there.
    """
    try:
        return _write_problems(account.clean())
    except KeyboardInterrupt:
        _write(f"Interrupted: not everything is deleted. {_HINT}")
        raise


def _write_problems(problems: Mapping[str, BaseException]) -> int:
    """
    Write why pipelines are still there, and return how many of them should have been
    deleted.
    """
    left = 0
    for name, problem in problems.items():
        text = " ".join(str(problem).split())
        if isinstance(problem, NotOwnError):
            _write(f"{name} is left as it is: {text}")
        else:
            _write(f"{name} is still there: {text} {_HINT}")
            left += 1
    return left


def _is_aws(account: Account) -> bool:
    url = account.client().meta.endpoint_url
    return re.fullmatch(AWS_ENDPOINT, url) is not None


def _report(
    results: Sequence[Result], account: Account, *, is_complete: bool
) -> dict[str, Any]:
    session = account.session
    endpoint = "not one of AWS"
    if _is_aws(account):
        endpoint = "AWS"
    about = {
        "region": account.region,
        "endpoint": endpoint,
        "sign_in": session.description,
    }
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            about[package.replace("-", "_")] = version(package)
    return as_json(
        results, about, datetime.now(UTC), session.secrets, is_complete=is_complete
    )


def _write_report(path: Path, report: Mapping[str, Any]) -> None:
    # The report is written as a whole or not at all.
    temporary = path.resolve().with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path.resolve())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise VerifyError(
            f"--report {path} cannot be written: {error.strerror}."
        ) from None
    content = "the report of the checks that were made. It is not complete"
    if report["complete"]:
        content = "the report"
    _write(f"{path}: {content}. It has no account number and no secret.")


def _clean(options: argparse.Namespace, stderr: _Masked) -> int:
    """
    Delete what killed runs have left, and write what was deleted.

    :return: the exit code.
    """
    calls = Calls(sign_in(options.conn_id, options.region))
    stderr.secrets = calls.session.secrets
    names, may_have_more = leftovers(calls)
    problems = delete_pipelines(calls, names)
    left = _write_problems(problems)
    if options.output == "json":
        deleted = [name for name in names if name not in problems]
        document = {"version": 1, "deleted": deleted, "left": [*problems]}
        sys.stdout.write(f"{json.dumps(document, indent=2)}\n")
    _write(
        f"{_number(len(names) - len(problems), 'pipeline')} deleted in region"
        f" {calls.region}."
    )
    if may_have_more:
        _write("There may be more: run the command again.")
    if left or may_have_more:
        return FAILED
    return OK

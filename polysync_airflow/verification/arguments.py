"""The options of ``polysync verify``, checked before anything is created, and the file of the report."""

from __future__ import annotations

import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.events.watch import check_watch, region_of_queue
from polysync_airflow.execution.models import ROLE_ARN_PATTERN
from polysync_airflow.execution.texts import shorten

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AppSpecification.html
_IMAGE: Final = re.compile(r"\S{1,255}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    What a run may do beside what costs nothing.

    :param job_image: URI of the image of the processing job; None for no job.
    :param queue_url: URL of a queue for events and messages of callback steps; None to leave both out.
    :param simulate_policy: whether to ask IAM about each action of the provider.
    """

    job_image: str | None = None
    queue_url: str | None = None
    simulate_policy: bool = False

    def has(self, option: str) -> bool:
        """Return whether an option of the command was given."""
        given = {
            "--with-job": self.job_image,
            "--queue-url": self.queue_url,
            "--simulate-policy": self.simulate_policy,
        }
        return bool(given[option])


def check_arguments(given: Any) -> Options:
    """
    Check the options of the command.

    :param given: the options as they were given: ``conn_id``, ``role_arn``, ``with_job``,
        ``queue_url``, ``simulate_policy`` and ``report``.
    :raises ParametersError: one of them is not valid.
    """
    if not re.fullmatch(ROLE_ARN_PATTERN, given.role_arn):
        raise ParametersError(
            f"--role-arn {shorten(given.role_arn)} is not the ARN of a role: give "
            "arn:aws:iam::<12-digit account>:role/<name>."
        )
    if given.with_job is not None and not _IMAGE.fullmatch(given.with_job):
        raise ParametersError(
            f"--with-job {shorten(given.with_job)} is not the URI of an image: give one of at most 255 "
            "characters without spaces that the role may pull."
        )
    if given.queue_url is not None:
        _check_queue(given.queue_url, given.conn_id)
    if given.report is not None:
        _check_writable(given.report)
    return Options(job_image=given.with_job, queue_url=given.queue_url, simulate_policy=given.simulate_policy)


def check_region(options: Options, region: str) -> None:
    """
    Check that the queue is where the checks are made: a rule of EventBridge sends to its own region.

    :param region: the AWS region of the connection.
    :raises ParametersError: it is in another region.
    """
    of_queue = region_of_queue(options.queue_url) if options.queue_url else None
    if of_queue and of_queue != region:
        raise ParametersError(
            f"--queue-url {shorten(options.queue_url)} is in region {of_queue}, and the checks are made in "
            f"{region}: give a queue of that region, or --region {of_queue}."
        )


def _check_queue(url: str, connection_id: str) -> None:
    try:
        check_watch({"queue_url": url, "polysync_conn_id": connection_id})
    except ParametersError:
        raise ParametersError(
            f"--queue-url {shorten(url)} is not the URL of a standard queue: give it as SQS returns it, "
            "https://sqs.<region>.amazonaws.com/<account>/<name>."
        ) from None


def _check_writable(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ParametersError(f"--report {path} is not a file: give the path of one.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.resolve().parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise ParametersError(
            f"--report {path} cannot be written: {error.strerror}. Give a file in a folder that exists."
        ) from None


def write_report(path: Path, text: str) -> None:
    """
    Write the report, whole or not at all.

    :raises ParametersError: it cannot be written.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ParametersError(f"--report {path} cannot be written: {error.strerror}.") from None

"""
Links to the AWS console. Nobody can say but a person who looks whether they lead to the execution.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-studio.html
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from polysync_airflow.execution.console import execution_url, is_console_url, log_url
from polysync_airflow.execution.steps.descriptions import log_source
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.beliefs.jobs import job
from polysync_airflow.verification.beliefs.outcomes import failed
from polysync_airflow.verification.models import Belief, NotCheckedError, Seen

WELL_FORMED: Final = "well-formed"


def execution_link(account: Account) -> str | None:
    """Return the link to an execution that has failed; None without a public console."""
    return execution_url(account.once(failed).arn, account.name_of("failed"))


def links(account: Account) -> dict[str, str]:
    """Return the links for a person to look at, by what they should show."""
    found = {f"an execution that has failed, with {definitions.REASON!r}": execution_link(account)}
    if account.options.job_image:
        made = account.once(job)
        source = log_source(made.step)
        found["the log of the job"] = log_url(made.arn, *source) if source else None
    return {what: url for what, url in found.items() if url}


def _link(account: Account) -> Seen:
    url = execution_link(account)
    if url is None:
        raise NotCheckedError("the partition has no public console")
    arn, parts = account.once(failed).arn, urlsplit(url)
    is_complete = arn in parts.fragment and f"region={account.region}" in parts.query
    return Seen(WELL_FORMED if is_console_url(url) and is_complete else "not well-formed", url)


BELIEFS: Final = (
    Belief(
        id="link.execution",
        sentence="The console link of an execution is well-formed; --open prints it for a person to look at.",
        expected=WELL_FORMED,
        relied_on_by=("polysync_airflow/execution/console.py", "docs/reference/links.md"),
        check=_link,
    ),
)

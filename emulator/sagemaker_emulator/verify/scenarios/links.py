"""
Links to the AWS console. Only a person who follows them can say whether they lead to
the execution.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-studio.html
"""

from __future__ import annotations

from urllib.parse import urlsplit

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import NotCheckedError, Observations, one_of
from sagemaker_emulator.verify.scenarios.jobs import LOG_GROUP, finished
from sagemaker_emulator.verify.scenarios.outcomes import failed


def _execution_link(account: Account) -> str:
    if account.session.execution_link is None:
        raise NotCheckedError(
            "the links are those of polysync-airflow, which needs --conn-id"
        )
    arn = account.once(failed).arn
    url = account.session.execution_link(arn, account.name_of("failed"))
    if url is None:
        raise NotCheckedError("the partition has no public console")
    return url


def links(account: Account) -> dict[str, str]:
    """
    Return the links for a person to look at, by what they should show.

    :raises NotCheckedError: there are none.
    """
    url = _execution_link(account)
    status = account.once(failed).status
    urls = {
        f"an execution that has ended as {status}, with {definitions.REASON!r}": url
    }
    if "--with-job" in account.options and account.session.log_link:
        name, end = account.once(finished)
        log_url = account.session.log_link(end.arn, LOG_GROUP, f"{name}/")
        urls["the log of the job"] = log_url or ""
    return urls


def link(account: Account) -> Observations:
    """Read the link to an execution."""
    url = _execution_link(account)
    arn = account.once(failed).arn
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_well_formed = (
        parts.scheme == "https"
        and host.startswith(f"{account.region}.console.")
        and parts.query == f"region={account.region}"
        and arn in parts.fragment
    )
    yield {"execution": one_of(is_well_formed, "well-formed", "not well-formed", url)}

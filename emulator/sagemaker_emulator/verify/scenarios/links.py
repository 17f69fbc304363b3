"""
Links to the AWS console. Nobody can say but a person who looks whether they lead to the
execution.

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
    url = account.session.execution_link(
        account.once(failed).arn, account.name_of("failed")
    )
    if url is None:
        raise NotCheckedError("the partition has no public console")
    return url


def links(account: Account) -> dict[str, str]:
    """
    Return the links for a person to look at, by what they should show.

    :raises NotCheckedError: there are none.
    """
    url, status = _execution_link(account), account.once(failed).status
    found = {
        f"an execution that has ended as {status}, with {definitions.REASON!r}": url
    }
    if "--with-job" in account.options and account.session.log_link:
        name, end = account.once(finished)
        found["the log of the job"] = (
            account.session.log_link(end.arn, LOG_GROUP, f"{name}/") or ""
        )
    return found


def link(account: Account) -> Observations:
    """Read the link to an execution."""
    url, arn = _execution_link(account), account.once(failed).arn
    parts = urlsplit(url)
    is_complete = arn in parts.fragment and parts.query == f"region={account.region}"
    is_console = parts.scheme == "https" and (parts.hostname or "").startswith(
        f"{account.region}.console."
    )
    yield {
        "execution": one_of(
            is_complete and is_console, "well-formed", "not well-formed", url
        )
    }

"""
Owns the IAM documents: what the provider's identity may do, and whom its role lets in.

Run it to have them printed::

    python -m polysync_airflow.iam policy --account 123456789012 --region eu-central-1 --pipeline Churn
    python -m polysync_airflow.iam trust --tenant 11111111-2222-... --audience api://polysync --subject 4...

Pure but for printing: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

# The operations that the provider calls, by what they are for. Each is also the name of its IAM action.
LISTING: Final = ("ListPipelines",)
REQUIRED: Final = (
    "DescribePipeline",
    "StartPipelineExecution",
    "DescribePipelineExecution",
    "StopPipelineExecution",
)
# Without these the provider does without, and says so.
OPTIONAL: Final = ("ListPipelineExecutionSteps", "RetryPipelineExecution", "ListPipelineExecutions")

ISSUER_V1: Final = "sts.windows.net/{tenant}/"
ISSUER_V2: Final = "login.microsoftonline.com/{tenant}/v2.0"


def identity_policy(
    *,
    account: str = "ACCOUNT",
    region: str = "REGION",
    partition: str = "aws",
    pipelines: Iterable[str] = (),
    pass_roles: Iterable[str] = (),
    optional: bool = True,
) -> dict[str, Any]:
    """
    Write the least that the provider's identity must be allowed.

    :param account: 12-digit AWS account id.
    :param region: AWS region.
    :param partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    :param pipelines: only these pipelines; all of account and region if there are none.
    :param pass_roles: ARNs of roles that starts may name.
    :param optional: also allow what the provider can do without: failed steps' reasons, resumes, listings.
    """
    # AWS writes names into ARNs in lower case, whatever their owner wrote.
    names = sorted({name.lower() for name in pipelines}) or ["*"]
    prefix = f"arn:{partition}:sagemaker:{region}:{account}:pipeline"
    resources = [arn for name in names for arn in (f"{prefix}/{name}", f"{prefix}/{name}/execution/*")]
    if names == ["*"]:
        resources = [f"{prefix}/*"]
    statements = [
        _allow("ListPipelines", LISTING, ["*"]),
        _allow("RunPipelines", REQUIRED, resources),
    ]
    if optional:
        statements.append(_allow("Optional", OPTIONAL, resources))
    roles = sorted(set(pass_roles))
    if roles:
        passed = _allow("PassExecutionRole", (), roles)
        passed["Action"] = ["iam:PassRole"]
        passed["Condition"] = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        statements.append(passed)
    return {"Version": "2012-10-17", "Statement": statements}


def missing_statement(operations: Iterable[str], resource: str) -> dict[str, Any]:
    """
    Write the statement that would allow what was denied.

    :param operations: AWS's names of the denied operations.
    :param resource: ARN or pattern they were denied on.
    """
    return {
        "Effect": "Allow",
        "Action": [f"sagemaker:{operation}" for operation in operations],
        "Resource": resource,
    }


def web_identity_trust(
    *, account: str, issuer: str, audience: str, subject: str, partition: str = "aws"
) -> dict[str, Any]:
    """
    Write the trust policy of a role that a web identity token may assume.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html

    :param account: 12-digit id of the account that has the role and the OIDC provider.
    :param issuer: the token's ``iss``; ``https://`` may be left out, a slash at its end may not.
    :param audience: the token's ``azp`` if it has one, else its ``aud``.
    :param subject: the token's ``sub``.
    :param partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    """
    provider = issuer.removeprefix("https://")
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{provider}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{provider}:aud": audience, f"{provider}:sub": subject}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def caller_trust(*, principal: str, external_id: str | None = None) -> dict[str, Any]:
    """
    Write the trust policy of a role that an AWS identity may assume.

    :param principal: ARN of the user or role that assumes it.
    :param external_id: what it must tell, if anything.
    """
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
    }
    if external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _allow(name: str, operations: Sequence[str], resources: list[str]) -> dict[str, Any]:
    return {
        "Sid": name,
        "Effect": "Allow",
        "Action": [f"sagemaker:{operation}" for operation in operations],
        "Resource": resources,
    }

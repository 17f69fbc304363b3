"""
Owns the IAM documents: what the provider's identity may do, and whom its role lets in.

Run it to have them printed::

    python -m polysync_airflow.iam policy --account 123456789012 --region eu-central-1 --pipeline Churn
    python -m polysync_airflow.iam trust --tenant 11111111-2222-... --audience api://polysync --subject 4...

Pure but for printing: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m polysync_airflow.iam", description="Print the IAM documents that the provider needs."
    )
    documents = parser.add_subparsers(dest="document", required=True)
    policy = documents.add_parser("policy", help="what the identity may do: for its identity policy")
    policy.add_argument("--region", required=True, help="AWS region, such as eu-central-1")
    policy.add_argument("--pipeline", action="append", default=[], help="only this one; may be repeated")
    policy.add_argument("--pass-role", action="append", default=[], help="ARN of a role that starts may name")
    policy.add_argument(
        "--required-only", action="store_true", help="leave out what the provider can do without"
    )
    trust = documents.add_parser("trust", help="whom the role lets in: for its trust policy")
    trust.add_argument("--tenant", required=True, help="Microsoft Entra tenant id")
    trust.add_argument(
        "--audience",
        required=True,
        help="the token's aud; its azp (client id) if it has one",
    )
    trust.add_argument("--subject", required=True, help="the token's sub: the service principal's object id")
    trust.add_argument(
        "--entra-version",
        choices=("v1", "v2"),
        default="v1",
        help="which kind of token the application takes",
    )
    for document in (policy, trust):
        document.add_argument("--account", required=True, help="12-digit AWS account id")
        document.add_argument("--partition", default="aws", choices=("aws", "aws-cn", "aws-us-gov"))
    return parser


def _document(options: argparse.Namespace) -> Mapping[str, Any]:
    if options.document == "policy":
        return identity_policy(
            account=options.account,
            region=options.region,
            partition=options.partition,
            pipelines=options.pipeline,
            pass_roles=options.pass_role,
            optional=not options.required_only,
        )
    issuer = ISSUER_V1 if options.entra_version == "v1" else ISSUER_V2
    return web_identity_trust(
        account=options.account,
        issuer=issuer.format(tenant=options.tenant),
        audience=options.audience,
        subject=options.subject,
        partition=options.partition,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Print the document that the command line asks for.

    :param arguments: the command line; None for the process's own.
    """
    print(json.dumps(_document(_parser().parse_args(arguments)), indent=2))  # noqa: T201 # printing is its job


if __name__ == "__main__":
    main()

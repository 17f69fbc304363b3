"""
Command line that prints the IAM documents that the provider needs.

::

    python -m polysync_airflow.iam policy --account 123456789012 --region eu-central-1 --pipeline Churn
    python -m polysync_airflow.iam trust --tenant 11111111-2222-... --audience api://polysync --subject 4...

``auth/iam_policies.py`` builds the documents. Nothing here calls AWS or needs Airflow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from polysync_airflow.auth.iam_policies import ISSUER_V1, ISSUER_V2, identity_policy, web_identity_trust


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

"""
Command line that prints the IAM documents that the provider needs.

::

    python -m polysync_airflow.iam policy --account 123456789012 --region eu-central-1 --pipeline Churn
    python -m polysync_airflow.iam trust --tenant 11111111-2222-... --audience api://polysync --subject 4...

``auth/iam_policies.py`` builds the documents. This module calls no AWS operation and does not need Airflow.
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
    policy = documents.add_parser("policy", help="the identity policy: what the identity may do")
    policy.add_argument("--region", required=True, help="AWS region, such as eu-central-1")
    policy.add_argument(
        "--pipeline", action="append", default=[], help="allow only this pipeline; may be repeated"
    )
    policy.add_argument(
        "--pass-role", action="append", default=[], help="ARN of an execution role; may be repeated"
    )
    policy.add_argument("--required-only", action="store_true", help="leave out the optional permissions")
    trust = documents.add_parser("trust", help="the trust policy of the role: who may assume it")
    trust.add_argument("--tenant", required=True, help="Microsoft Entra tenant id")
    trust.add_argument(
        "--audience",
        required=True,
        help="aud claim of the token; its azp claim (the client id) if it has one",
    )
    trust.add_argument(
        "--subject", required=True, help="sub claim of the token: the object id of the service principal"
    )
    trust.add_argument(
        "--entra-version",
        choices=("v1", "v2"),
        default="v1",
        help="version of the tokens that the application accepts",
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
    Print the document that the command line names.

    :param arguments: the arguments; None for those of the process.
    """
    print(json.dumps(_document(_parser().parse_args(arguments)), indent=2))  # noqa: T201 # the output of the command


if __name__ == "__main__":
    main()

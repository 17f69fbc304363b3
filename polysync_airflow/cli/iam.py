"""The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and needs no Airflow."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from polysync_airflow.auth.iam_policies import ISSUER_V1, ISSUER_V2, identity_policy, web_identity_trust
from polysync_airflow.cli.output import OK, write_result

_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_GROUP: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
# With a slash at the end: s3://bucket* would be other buckets, too.
_PREFIX: Final = re.compile(r"s3://[^/\s]+/(\S*/)?")
_QUEUE: Final = re.compile(r"arn:aws[a-z-]*:sqs:[a-z0-9*?-]+:[0-9*?]+:[\w.*?-]{1,80}")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print the IAM documents that the provider needs."
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
    policy.add_argument(
        "--property-files",
        action="append",
        default=[],
        metavar="S3_URI",
        help="s3://bucket/prefix/ of outputs with property files; may be repeated",
    )
    policy.add_argument(
        "--model-package-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="allow a sensor to wait for the approval of versions of this group; may be repeated",
    )
    policy.add_argument(
        "--approve-models",
        action="store_true",
        help="allow to approve and reject versions of the --model-package-group, too",
    )
    policy.add_argument(
        "--callback-queue",
        action="append",
        default=[],
        metavar="QUEUE_ARN",
        help="ARN of the SQS queue of callback steps that tasks answer; may be repeated",
    )
    policy.add_argument(
        "--verify",
        action="store_true",
        help="also allow what polysync verify does; --pass-role names the role of its pipelines",
    )
    policy.add_argument("--required-only", action="store_true", help="leave out the optional permissions")
    trust = documents.add_parser("trust", help="the trust policy of the role: who may assume it")
    trust.add_argument("--tenant", required=True, help="Microsoft Entra tenant id")
    trust.add_argument(
        "--audience",
        required=True,
        help="azp claim of a v2 token (the client id of the caller), aud claim of a v1 token",
    )
    trust.add_argument(
        "--subject", required=True, help="sub claim of the token: the object id of the service principal"
    )
    trust.add_argument(
        "--subject-claim",
        choices=("sub", "oid"),
        default="sub",
        help="the claim that must be --subject (default: sub)",
    )
    trust.add_argument(
        "--entra-version",
        choices=("v1", "v2"),
        default="v2",
        help="version of the tokens that the application accepts (default: v2)",
    )
    for document in (policy, trust):
        document.add_argument("--account", required=True, help="12-digit AWS account id")
        document.add_argument("--partition", default="aws", choices=("aws", "aws-cn", "aws-us-gov"))
        document.add_argument(
            "--allow-wildcards", action="store_true", help="accept * and ? in the values, which allow more"
        )
    return parser


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error if a value would allow more than it seems to."""
    for name, value in vars(options).items():
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            option = f"--{name.replace('_', '-')}"
            if not text.strip():
                parser.error(f"{option} is empty: give a value")
            if not options.allow_wildcards and ("*" in text or "?" in text):
                parser.error(
                    f"{option} {text!r} has a wildcard, which allows more than one: add --allow-wildcards"
                )
            if name == "property_files" and not _PREFIX.fullmatch(text):
                parser.error(f"{option} {text!r} is not a folder of S3: give s3://<bucket>/<folder>/")
            if name == "model_package_group" and not options.allow_wildcards and not _GROUP.fullmatch(text):
                parser.error(f"{option} {text!r} is not the name of a model package group")
            if name == "callback_queue" and not _QUEUE.fullmatch(text):
                parser.error(f"{option} {text!r} is no queue: give arn:aws:sqs:<region>:<account>:<name>")
            if name == "account" and not options.allow_wildcards and not _ACCOUNT.fullmatch(text):
                parser.error(f"{option} {text!r} is not an AWS account id of 12 digits")


def _check_together(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.document == "policy" and options.approve_models and not options.model_package_group:
        parser.error("--approve-models needs --model-package-group: name the groups")
    if options.document == "policy" and options.verify and not options.pass_role:
        parser.error("--verify needs --pass-role: name the role of the pipelines")


def _document(options: argparse.Namespace) -> Mapping[str, Any]:
    if options.document == "policy":
        return identity_policy(
            account=options.account,
            region=options.region,
            partition=options.partition,
            pipelines=options.pipeline,
            pass_roles=options.pass_role,
            property_files=options.property_files,
            model_package_groups=options.model_package_group,
            approve_models=options.approve_models,
            callback_queues=options.callback_queue,
            optional=not options.required_only,
            verify=options.verify,
        )
    issuer = ISSUER_V1 if options.entra_version == "v1" else ISSUER_V2
    return web_identity_trust(
        account=options.account,
        issuer=issuer.format(tenant=options.tenant),
        audience=options.audience,
        subject=options.subject,
        subject_claim=options.subject_claim,
        partition=options.partition,
    )


def main(arguments: Sequence[str], prog: str) -> int:
    """Print the document that the arguments name, and return the exit code."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    _check(parser, options)
    _check_together(parser, options)
    write_result(json.dumps(_document(options), indent=2) + "\n")
    return OK

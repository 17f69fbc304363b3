"""The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and needs no Airflow."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from polysync_airflow.auth.iam_policies import ISSUER_V1, ISSUER_V2, identity_policy, web_identity_trust
from polysync_airflow.cli.output import OK, complete, write_result

# By option: the form of a value, whether --allow-wildcards allows any other, and what is wrong then.
_FORMS: Final = {
    "account": (re.compile(r"[0-9]{12}"), True, "is not an AWS account id of 12 digits"),
    # With a slash at the end: s3://bucket* would be other buckets, too.
    "property_files": (
        re.compile(r"s3://[^/\s]+/(\S*/)?"),
        False,
        "is not a folder of S3: give s3://<bucket>/<folder>/",
    ),
    "model_package_group": (
        re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"),
        True,
        "is not the name of a model package group",
    ),
    "callback_queue": (
        re.compile(r"arn:aws[a-z-]*:sqs:[a-z0-9*?-]+:[0-9*?]+:[\w.*?-]{1,80}"),
        False,
        "is no queue: give arn:aws:sqs:<region>:<account>:<name>",
    ),
}
_ANY: Final = (re.compile(r"(?s).*"), True, "")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print the IAM documents that the provider needs."
    )
    complete(parser, "iam")
    return parser


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error if a value would allow more than it seems to, or an option lacks another."""
    for name, value in vars(options).items():
        option, (pattern, may_have_wildcards, problem) = f"--{name.replace('_', '-')}", _FORMS.get(name, _ANY)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            if not text.strip():
                parser.error(f"{option} is empty: give a value")
            if not options.allow_wildcards and ("*" in text or "?" in text):
                parser.error(
                    f"{option} {text!r} has a wildcard, which allows more than one: add --allow-wildcards"
                )
            if not pattern.fullmatch(text) and not (may_have_wildcards and options.allow_wildcards):
                parser.error(f"{option} {text!r} {problem}")
    if options.document == "policy" and options.approve_models and not options.model_package_group:
        parser.error("--approve-models needs --model-package-group: name the groups")
    if options.document == "policy" and options.verify and not options.pass_role:
        parser.error("--verify needs --pass-role: name the role of the pipelines")


def _document(options: argparse.Namespace) -> Mapping[str, Any]:
    owner = {"account": options.account, "partition": options.partition}
    if options.document == "policy":
        return identity_policy(
            **owner,
            region=options.region,
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
        **owner,
        issuer=issuer.format(tenant=options.tenant),
        audience=options.audience,
        subject=options.subject,
        subject_claim=options.subject_claim,
    )


def main(arguments: Sequence[str], prog: str) -> int:
    """Print the document that the arguments name, and return the exit code."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    _check(parser, options)
    write_result(json.dumps(_document(options), indent=2) + "\n")
    return OK

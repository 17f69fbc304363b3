"""The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and needs no Airflow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from polysync_airflow.auth.iam_policies import ISSUER_V1, ISSUER_V2, identity_policy, web_identity_trust
from polysync_airflow.cli.output import COMMANDS, OK, check_values, complete, write_result
from polysync_airflow.execution.models import is_managed


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print the IAM documents that the provider needs."
    )
    complete(parser, "iam")
    return parser


def _check_policy(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error if an option lacks another, or an ARN is of another partition."""
    if options.approve_models and not options.model_package_groups:
        parser.error("--approve-models needs --model-package-group: name the groups")
    managed = [f"--pipeline {each}" for each in options.pipelines if is_managed(each)]
    if not options.pass_roles and (needing := ["--verify"] if options.verify else managed):
        parser.error(f"{needing[0]} needs --pass-role: name the role of the pipelines")
    for text in (*options.pipelines, *options.pass_roles, *options.callback_queues):
        if text.startswith("arn:") and not text.startswith(f"arn:{options.partition}:"):
            parser.error(f"{text!r} is not in the partition {options.partition} of --region or --partition")


def _partition(region: str) -> str:
    """Return the AWS partition of a region."""
    by_prefix = COMMANDS["iam"]["partitions"].items()
    return next((name for prefix, name in by_prefix if region.startswith(prefix)), "aws")


def _document(*, document: str, allow_wildcards: bool, **options: Any) -> Mapping[str, Any]:
    """Return the document that is made of options, which have the names of its function's arguments."""
    if document == "policy":
        return identity_policy(**options)
    issuer = ISSUER_V1 if options.pop("entra_version") == "v1" else ISSUER_V2
    return web_identity_trust(issuer=issuer.format(tenant=options.pop("tenant")), **options)


def main(arguments: Sequence[str], prog: str) -> int:
    """Print the document that the arguments name, and return the exit code."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    check_values(parser, options)
    if options.document == "policy":
        options.partition = options.partition or _partition(options.region)
        _check_policy(parser, options)
    write_result(json.dumps(_document(**vars(options)), indent=2) + "\n")
    return OK

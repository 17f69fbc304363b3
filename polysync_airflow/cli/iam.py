"""
The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and
needs no Airflow.
"""

from __future__ import annotations

import argparse
from typing import Final

from polysync_airflow.auth.iam_policies import (
    ISSUER_V1,
    ISSUER_V2,
    identity_policy,
    web_identity_trust,
)
from polysync_airflow.cli.output import (
    COMMANDS,
    OK,
    check_values,
    values_of,
    write_json,
)
from polysync_airflow.execution.models import is_managed

# By the beginning of the name of a region.
PARTITIONS: Final[dict[str, str]] = COMMANDS["partitions"]


def _check_policy(options: argparse.Namespace) -> None:
    """
    End with an error if an option lacks another, or an ARN is of another partition.
    """
    if options.approve_models and not options.model_package_groups:
        options.parser.error(
            "--approve-models needs --model-package-group: name the groups"
        )
    managed = [f"--pipeline {each}" for each in options.pipelines if is_managed(each)]
    if not options.pass_roles and (
        needing := ["--verify"] if options.verify else managed
    ):
        options.parser.error(
            f"{needing[0]} needs --pass-role: name the role of the pipelines"
        )
    for text in (*options.pipelines, *options.pass_roles, *options.callback_queues):
        if text.startswith("arn:") and not text.startswith(f"arn:{options.partition}:"):
            options.parser.error(
                f"{text!r} is not in the partition {options.partition} of --region or"
                " --partition"
            )


def main(options: argparse.Namespace) -> int:
    """Print the document that the arguments name, and return the exit code."""
    check_values(options)
    if options.command == "policy":
        of_region = [
            name
            for prefix, name in PARTITIONS.items()
            if options.region.startswith(prefix)
        ]
        options.partition = options.partition or (*of_region, "aws")[0]
        _check_policy(options)
        write_json(identity_policy(**values_of(options)))
        return OK
    values = values_of(options)
    issuer = ISSUER_V1 if values.pop("entra_version") == "v1" else ISSUER_V2
    write_json(
        web_identity_trust(issuer=issuer.format(tenant=values.pop("tenant")), **values)
    )
    return OK

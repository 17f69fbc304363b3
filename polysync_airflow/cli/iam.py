"""
The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and
needs no Airflow.
"""

from __future__ import annotations

import argparse

from polysync_airflow.auth import iam_policies
from polysync_airflow.aws import sessions
from polysync_airflow.aws.regions import meant_region
from polysync_airflow.cli import output
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import is_managed


def main(args: argparse.Namespace) -> int:
    """Print the document that the arguments name, and return the exit code."""
    output.check_values(args)
    _set_partition(args)
    if args.command == "policy":
        _check_policy(args)
        output.write_json(iam_policies.identity_policy(**output.values_of(args)))
        return output.OK
    values = output.values_of(args)
    issuer = iam_policies.ISSUER_V2
    if values.pop("entra_version") == "v1":
        issuer = iam_policies.ISSUER_V1
    tenant = values.pop("tenant")
    output.write_json(
        iam_policies.web_identity_trust(issuer=issuer.format(tenant=tenant), **values)
    )
    return output.OK


def _set_partition(args: argparse.Namespace) -> None:
    """
    Take the partition of the region if none is given. End with an error if botocore
    does not have it.
    """
    if args.partition is None:
        meant = meant_region(args.region)
        if meant:
            args.parser.error(
                f"--region {args.region!r} is not known. Did you mean {meant}? If it is"
                " newer than this botocore, give its --partition"
            )
        try:
            args.partition = sessions.partition_of(args.region)
        except ParametersError:
            args.parser.error(
                f"the partition of region {args.region!r} is not known: name it with"
                " --partition"
            )
    partitions = sessions.partitions()
    if args.partition not in partitions:
        args.parser.error(
            f"--partition {args.partition!r} is no partition of AWS: give one of"
            f" {', '.join(partitions)}"
        )


def _check_policy(args: argparse.Namespace) -> None:
    """
    End with an error if an option lacks another, or an ARN is of another partition.
    """
    if args.approve_models and not args.model_package_groups:
        args.parser.error(
            "--approve-models needs --model-package-group: name the groups"
        )
    if not args.pass_roles:
        needing = [f"--pipeline {name}" for name in args.pipelines if is_managed(name)]
        if args.make_pipelines:
            needing = ["--make-pipeline"]
        if args.verify:
            needing = ["--verify"]
        if needing:
            args.parser.error(
                f"{needing[0]} needs --pass-role: name the role of the pipelines"
            )
    arns = (
        *args.pipelines,
        *args.pass_roles,
        *args.callback_queues,
        *args.simulate_policy,
    )
    for text in arns:
        if text.startswith("arn:") and not text.startswith(f"arn:{args.partition}:"):
            args.parser.error(
                f"{text!r} is not in the partition {args.partition} of --region or"
                " --partition"
            )

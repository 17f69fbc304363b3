"""
The command ``polysync iam``: it prints the documents of ``auth/iam_policies.py``, and
those of ``auth/pipeline_role.py`` for a role of pipelines. It needs no Airflow, unless
it asks for a deployed pipeline.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Final

from polysync_airflow.auth import iam_policies, pipeline_role
from polysync_airflow.aws import sessions
from polysync_airflow.aws.regions import meant_region
from polysync_airflow.cli import output
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import is_managed
from polysync_airflow.execution.texts import first_problems

# The options that go with --pipeline-role, and which no other policy has.
_OF_ROLE: Final = ("pipeline_role", "definition", "job_type", "conn_id")
_WITH_ROLE: Final = {*_OF_ROLE, "account", "region", "partition", "pipelines"}


def main(args: argparse.Namespace) -> int:
    """Print the document that the arguments name, and return the exit code."""
    output.check_values(args)
    _set_partition(args)
    values = output.values_of(args)
    if args.command == "policy" and args.pipeline_role:
        return _print_role(args)
    if args.command == "policy":
        _check_policy(args)
        _refuse(args, _OF_ROLE, "goes with --pipeline-role only")
        for name in _OF_ROLE:
            del values[name]
        output.write_json(iam_policies.identity_policy(**values))
        return output.OK
    issuer = iam_policies.ISSUER_V2
    if values.pop("entra_version") == "v1":
        issuer = iam_policies.ISSUER_V1
    tenant = values.pop("tenant")
    output.write_json(
        iam_policies.web_identity_trust(issuer=issuer.format(tenant=tenant), **values)
    )
    return output.OK


def _print_role(args: argparse.Namespace) -> int:
    """Print what the role of a pipeline needs."""
    others = output.values_of(args).keys() - _WITH_ROLE
    _refuse(args, others, "does not go with --pipeline-role")
    if (args.definition is None) is not (len(args.pipelines) == 1):
        args.parser.error("--pipeline-role needs a --definition, or one --pipeline")
    if args.job_type and not args.definition:
        args.parser.error("--job-type needs the config of the job as --definition")
    try:
        needs = _needs(args)
    except ParametersError as error:
        args.parser.error(str(error).rstrip("."))
    if needs.unknown and not args.allow_wildcards:
        args.parser.error(
            "which resources a step needs is known only when it starts:"
            f" {'; '.join(first_problems(needs.unknown))}. Give the parameters there"
            " defaults, or allow all resources with --allow-wildcards"
        )
    for note in needs.notes:
        output.write_message(note)
    output.write_json(needs.role)
    return output.OK


def _needs(args: argparse.Namespace) -> pipeline_role.RoleNeeds:
    role_arn = args.pipeline_role
    name = None
    if args.definition:
        try:
            text = args.definition.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise ParametersError(f"--definition {args.definition}: {error}") from None
    else:
        with output.airflow_in_use(args.conn_id):
            pipeline = output.hook(args).describe_pipeline(args.pipelines[0])
        text = pipeline.definition
        name = pipeline.name
        if role_arn is True:
            role_arn = pipeline.role_arn
    definition = pipeline_role.read_object(text, "the definition")
    if args.job_type:
        definition = pipeline_role.definition_of_job(args.job_type, definition)
    return pipeline_role.role_needs(
        definition,
        account=args.account,
        region=args.region,
        partition=args.partition,
        pipeline=name or "*",
        role_arn=None if role_arn is True else role_arn,
    )


def _refuse(args: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """End with an error if one of some options is given."""
    options = {each.dest: each.option_strings[0] for each in args.parser._actions}
    for name in names:
        if getattr(args, name) != args.parser.get_default(name):
            args.parser.error(f"{options[name]} {why}")


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

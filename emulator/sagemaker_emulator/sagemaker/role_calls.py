"""
What a step needs roles for: the calls that AWS makes with the role of the pipeline, and
those that the job makes with its own, which is the same if it names no other.

The emulator makes none of these calls. If it enforces policies, it asks for each of
them whether the role may, and lets the step fail as AWS does, or not be stopped: then
its job runs to its end, and the step fails. AWS documents neither the latter nor when
it describes a job; here that is when the step starts.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from sagemaker_emulator.engine.definition import Step, references
from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.sagemaker.jobs.names import (
    RESOURCES,
    arguments_of,
    job_name,
    value_of,
)
from sagemaker_emulator.sagemaker.store import (
    ACCOUNT,
    ExecutionRecord,
    Region,
    partition,
)

_CALLS: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
# What makes the job of a step, or the like, by the type of the step.
_CREATED_BY: Final = {
    kind: entry["actions"][0]
    for entry in _CALLS["start"]
    if entry["actions"][0].startswith("sagemaker:Create") and "by" not in entry
    for kind in entry["of"]
}
# The members with what a job writes.
_WRITTEN: Final = frozenset(
    {
        "OutputDataConfig",
        "ProcessingOutputConfig",
        "TransformOutput",
        "DebugHookConfig",
        "ProfilerConfig",
        "TensorBoardOutputConfig",
    }
)
_INNER_STEPS: Final = ("IfSteps", "ElseSteps", "ForEachBody")
_ROLES: Final = ("RoleArn", "ExecutionRoleArn")
_BASELINES: Final = ("SuppliedBaselineConstraints", "SuppliedBaselineStatistics")
_IMAGE: Final = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[^/]+/([^:@]+).*")
_QUEUE: Final = re.compile(r"https://sqs\.([a-z0-9-]+)\.[^/]+/(\d{12})/(\S+)")
_PROPERTY_FILE: Final = re.compile(r"Steps\.([\w-]+)\.PropertyFiles\.(.+)")
# As seen in errors of accounts.
_MAX_STEP_NAME: Final = 20


class RoleCall(NamedTuple):
    """
    A call that a role must be allowed to make.

    :param session: the name of the session of the role.
    :param source_arn: what SageMaker assumes the role for.
    :param passed_to: the service that gets the role, for ``iam:PassRole``.
    """

    role_arn: str
    session: str
    source_arn: str
    region: str
    action: str
    resource: str
    passed_to: str | None


#: Returns why a role may not make a call; None if it may.
Authorize = Callable[[RoleCall], str | None]


def refusal_of_roles(
    region: Region, record: ExecutionRecord, when: str, run: StepRun
) -> str | None:
    """
    Return why a step cannot start or be stopped; None if it can.

    :param when: ``start`` or ``stop``.
    """
    authorize = region.authorizer()
    if authorize is None:
        return None
    attempt = run.attempt + int(when == "start")
    values = _values(region, record, run, attempt)
    for entry in _CALLS[when]:
        if run.step.type not in entry.get("of", [run.step.type]):
            continue
        if "with" in entry and entry["with"] not in values["members"]:
            continue
        for call in _calls(entry, values, region, record, run):
            reason = authorize(call)
            if reason is None:
                continue
            if "by" in entry:
                return f"ClientError: {reason}"
            operation = entry.get("for", call.action)
            if operation == "sagemaker:AddTags":
                operation = entry["actions"][0]
            elif operation == "iam:PassRole":
                operation = _CREATED_BY[run.step.type]
            return f"ClientError: Failed to invoke {operation}. Error Details: {reason}"
    return None


def _calls(
    entry: Mapping[str, Any],
    values: Mapping[str, list[str]],
    region: Region,
    record: ExecutionRecord,
    run: StepRun,
) -> Iterator[RoleCall]:
    """Yield the calls of an entry of the table."""
    roles = [record.role_arn]
    session = f"sagemaker-pipeline-{record.id}-{run.step.name[:_MAX_STEP_NAME]}"
    source = record.arn
    if "by" in entry:
        roles = values["job_role"]
        session = "SageMaker"
        source = region.arn(RESOURCES[run.step.type], values["job"][0])
    places = {
        "account": ACCOUNT,
        "partition": partition(region.name),
        "region": region.name,
        "sagemaker": f"arn:{partition(region.name)}:sagemaker:{region.name}:{ACCOUNT}",
    }
    names = [name for name in re.findall(r"{(\w+)}", entry["on"]) if name not in places]
    name = names[0] if names else ""
    for value in values[name] if names else [""]:
        resource = entry["on"].format(**places, **{name: value})
        for role in roles:
            for action in entry["actions"]:
                yield RoleCall(
                    role,
                    session,
                    source,
                    region.name,
                    action,
                    resource,
                    entry.get("passed_to"),
                )


def _values(
    region: Region, record: ExecutionRecord, run: StepRun, attempt: int
) -> defaultdict[str, list[str]]:
    """Return the texts in a step by their member, and what follows from them."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    values["job"] = [job_name(region, record, run, attempt)]
    body = {name: value_of(record, run, run.step.body[name]) for name in run.step.body}
    for path, value in _texts({**body, "Arguments": arguments_of(record, run)}, ()):
        values["members"] += path
        values[path[-1]].append(value)
        if path[-1] in _ROLES:
            values["role"].append(value)
        for name, resource in _resources(region, path, value):
            values[name].append(f"arn:{partition(region.name)}:{resource}")
    values["written"] = [f"{folder}/{values['job'][0]}" for folder in values["written"]]
    values["property_file"] = [
        f"arn:{partition(region.name)}:s3:::{uri.removeprefix('s3://')}"
        for uri in _files_read(record, run, run.step.body)
    ]
    values["job_role"] = values["role"]
    for other in record.engine.runs.values():
        made = job_name(region, record, other, other.attempt)
        # The job of a transform has the role of its model.
        if run.step.type == "Transform" and [made] == values["ModelName"]:
            values["job_role"] = [text(arguments_of(record, other)["ExecutionRoleArn"])]
    return values


def _resources(
    region: Region, path: tuple[str, ...], value: str
) -> Iterator[tuple[str, str]]:
    """Yield the resources that a text in a step names, each after its kind."""
    image = _IMAGE.fullmatch(value)
    if image:
        yield "image", f"ecr:{image[2]}:{image[1]}:repository/{image[3]}"
    queue = _QUEUE.fullmatch(value)
    if queue:
        yield "queue", f"sqs:{queue[1]}:{queue[2]}:{queue[3]}"
    if path[-1].endswith("KmsKeyId"):
        key = value.rpartition("/")[2]
        yield f"key_of_{path[-1]}", f"kms:{region.name}:{ACCOUNT}:key/{key}"
    if not value.startswith("s3://"):
        return
    place = f"s3:::{value.removeprefix('s3://').rstrip('/')}"
    if _WRITTEN.intersection(path):
        yield "written", place
        return
    yield "read", place
    yield "bucket", place.partition("/")[0]
    if path[-1] == "ModelDataUrl" or "ModelDataSource" in path:
        yield "model_data", place
    if path[-1] in _BASELINES:
        yield "baseline", place


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the texts in a step, with the members that lead to them."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name not in _INNER_STEPS:
                yield from _texts(member, (*path, name))
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry, path)
    elif path and value is not None:
        yield path, text(value)


def _files_read(record: ExecutionRecord, run: StepRun, value: Any) -> Iterator[str]:
    """Yield the URIs of the files that the expressions of a step read."""
    if isinstance(value, list):
        for entry in value:
            yield from _files_read(record, run, entry)
    if not isinstance(value, dict):
        return
    for name, member in value.items():
        if name != "Std:JsonGet" or not isinstance(member, dict):
            if name not in _INNER_STEPS:
                yield from _files_read(record, run, member)
            continue
        uri = member.get("S3Uri")
        match = _PROPERTY_FILE.fullmatch(next(references(member), ""))
        if match and match[1] in record.engine.runs:
            uri = _property_file(record.engine.runs[match[1]].step, match[2])
        yield text(value_of(record, run, uri))


def _property_file(step: Step, name: str) -> dict[str, Any] | None:
    """Return the expression of the URI of a property file."""
    for file in step.body.get("PropertyFiles") or ():
        if file.get("PropertyFileName") == name:
            output = f"ProcessingOutputConfig.Outputs['{file.get('OutputName')}']"
            folder = {"Get": f"Steps.{step.name}.{output}.S3Output.S3Uri"}
            return {"Std:Join": {"On": "/", "Values": [folder, file.get("FilePath")]}}
    return None

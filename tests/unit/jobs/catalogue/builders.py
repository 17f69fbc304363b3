"""Builds jobs, entries of catalogues, and pipelines."""

from __future__ import annotations

import json
from typing import Any

from polysync_airflow.execution.pipelines import DeclaredParameter, Job
from polysync_airflow.jobs.catalogue import CatalogueJob
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import step

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
DIGEST = f"sha256:{'0' * 64}"
ARN_TEXT = f"arn:aws:sagemaker:{REGION}:123456789012:pipeline/x"
STEPS = [step("A")]
# Texts that YAML 1.1 or 1.2 reads as something else when they are not quoted.
TRAPS = (
    "no",
    "1e3",
    "2024-01-01",
    "2024-01-01T10:00:00Z",
    "null",
    "~",
    "0x10",
    "012",
    "1:30",
    "*a",
    "&a b",
    "=",
)
ODD_TEXTS = (
    "ü 日本 🚀",
    "a: b # c",
    "line\nbreak\t",
    "\x00\x1b\x85\u2028\ufeff",
    " word" * 50,
)
DEFAULTS: dict[str, list[Any]] = {
    "String": ["", "ml.m5.xlarge", "s3://bucket/{{ ds }}/x", *ODD_TEXTS, *TRAPS],
    "Integer": [0, 1, -5, 2**53 + 1],
    "Float": [0.5, 6, 6.0, 1e-9, 1e21, -0.0],
    "Boolean": [True, False],
}


def parameter(name: str = "P", **fields: Any) -> DeclaredParameter:
    """Return a declared parameter; its other members as given."""
    aliases = {"type": "Type", "default": "DefaultValue", "enum_values": "EnumValues"}
    aliases["description"] = "Description"
    content = {aliases[field]: value for field, value in fields.items()}
    return DeclaredParameter.model_validate({"Name": name, **content})


def arn(name: str) -> str:
    """Return the ARN of a pipeline."""
    return f"arn:aws:sagemaker:{REGION}:123456789012:pipeline/{name}"


def job(name: str = "churn", *parameters: DeclaredParameter, **fields: Any) -> Job:
    """Return an imported job."""
    empty = dict.fromkeys(
        (
            "max_parallel_steps",
            "role_arn",
            "display_name",
            "description",
            "created_at",
            "modified_at",
            "last_run_at",
            "parameters_error",
        )
    )
    content = {"definition_digest": DIGEST, "region": REGION, **empty, **fields}
    return Job.model_validate(
        {"name": name, "arn": arn(name), "parameters": list(parameters), **content}
    )


def entry(
    name: str = "churn", *parameters: DeclaredParameter, **fields: Any
) -> CatalogueJob:
    """Return an entry of a catalogue."""
    own = {"name": name, "arn": arn(name), "region": REGION}
    plain = [each.model_dump() for each in parameters]
    return CatalogueJob.model_validate(
        {**own, "definition_digest": DIGEST, "parameters": plain, **fields}
    )


def put_pipelines(
    emulator: EmulatorServer,
    content: dict[str, Any],
    *,
    update: bool = False,
    region: str = REGION,
) -> None:
    """Create pipelines in the emulator, or change the definitions of pipelines."""
    for name, definition in content.items():
        request = {"PipelineName": name, "PipelineDefinition": json.dumps(definition)}
        request["RoleArn"] = ROLE
        if not update:
            request["ClientRequestToken"] = f"{name:0>40}"
        operation = "UpdatePipeline" if update else "CreatePipeline"
        emulator.sagemaker.call(operation, region, request)


def delete_pipelines(emulator: EmulatorServer, *names: str) -> None:
    """Delete pipelines in the emulator."""
    for name in names:
        request = {"PipelineName": name, "ClientRequestToken": f"{name:0>40}"}
        emulator.sagemaker.call("DeletePipeline", REGION, request)

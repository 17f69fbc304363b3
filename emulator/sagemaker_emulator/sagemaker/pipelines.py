"""
The API operations on pipelines, their versions and their tags.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html and
the related pages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from sagemaker_emulator.engine.definition import Definition, DefinitionError
from sagemaker_emulator.errors import ApiError, conflict, invalid, quota_exceeded
from sagemaker_emulator.sagemaker.calls import (
    Call,
    Operation,
    omit_none,
    parallelism_configuration,
)
from sagemaker_emulator.sagemaker.definition_checks.check import checked
from sagemaker_emulator.sagemaker.pagination import page
from sagemaker_emulator.sagemaker.store import Executions, Pipeline, Version
from sagemaker_emulator.texts import unable_to_parse

_LOG = logging.getLogger(__name__)

_MAX_ALIASES = 10
# https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html
_MAX_TAGS = 50
_RESERVED_TAGS = "aws:"


def create_pipeline(call: Call) -> dict[str, Any]:
    """Create a pipeline with version 1."""
    request = call.request
    region = call.region
    name = request["PipelineName"]
    if name.lower() in region.pipelines:
        raise invalid(
            "Pipeline names must be unique within an AWS account and region. "
            f"Pipeline with name ({name}) already exists."
        )
    created = sum(not pipeline.is_managed for pipeline in region.pipelines.values())
    if created >= call.limits.max_pipelines:
        raise quota_exceeded(
            "pipelines", "Pipelines", call.limits.max_pipelines, created
        )
    definition = _definition(call)
    if definition is None:
        raise invalid(
            "Either PipelineDefinition or PipelineDefinitionS3Location is required."
        )
    pipeline = Pipeline(
        name=name,
        arn=region.arn("pipeline", name),
        role_arn=request["RoleArn"],
        created_at=call.now,
        versions=[],
        executions=Executions(),
        display_name=request.get("PipelineDisplayName"),
        description=request.get("PipelineDescription"),
        max_parallel=call.max_parallel,
        modified_at=call.now,
        tags=_tags(request.get("Tags", ())),
    )
    _add_version(pipeline, definition, request, call.now)
    region.pipelines[name.lower()] = pipeline
    return {"PipelineArn": pipeline.arn}


def update_pipeline(call: Call) -> dict[str, Any]:
    """
    Update a pipeline. A definition that differs from the latest one creates a new
    version.
    """
    request = call.request
    pipeline = call.region.pipeline(request["PipelineName"])
    definition = _definition(call)
    if definition is not None and definition.text != pipeline.version().definition.text:
        _add_version(pipeline, definition, request, call.now)
    elif request.get("PipelineVersionAliases"):
        raise invalid(
            "PipelineVersionAliases can be specified only when the pipeline definition"
            " changes."
        )
    pipeline.role_arn = request.get("RoleArn", pipeline.role_arn)
    pipeline.display_name = request.get("PipelineDisplayName", pipeline.display_name)
    pipeline.description = request.get("PipelineDescription", pipeline.description)
    pipeline.max_parallel = call.max_parallel or pipeline.max_parallel
    pipeline.modified_at = call.now
    return {"PipelineArn": pipeline.arn, "PipelineVersionId": pipeline.version().id}


def delete_pipeline(call: Call) -> dict[str, Any]:
    """Delete a pipeline and its executions, unless one of them is running."""
    pipeline = call.region.pipeline(call.request["PipelineName"])
    for record in pipeline.executions.open.values():
        record.engine.advance(call.now)
        if not record.has_ended:
            raise conflict(
                f"Pipeline '{pipeline.arn}' has running executions: stop them first."
            )
    call.region.delete(pipeline)
    return {"PipelineArn": pipeline.arn}


def describe_pipeline(call: Call) -> dict[str, Any]:
    """Return the details of a pipeline, always with its full definition."""
    request = call.request
    pipeline = call.region.pipeline(request["PipelineName"])
    version = pipeline.version(
        request.get("PipelineVersionId"), request.get("PipelineVersionAlias")
    )
    return pipeline_details(pipeline, version)


def pipeline_details(pipeline: Pipeline, version: Version) -> dict[str, Any]:
    """Return the members of DescribePipeline for a version."""
    return omit_none(
        PipelineArn=pipeline.arn,
        PipelineName=pipeline.name,
        PipelineDisplayName=pipeline.display_name or pipeline.name,
        PipelineDefinition=version.definition.text,
        PipelineDescription=pipeline.description,
        RoleArn=pipeline.role_arn,
        PipelineStatus="Active",
        CreationTime=pipeline.created_at,
        LastModifiedTime=pipeline.modified_at,
        LastRunTime=pipeline.last_run_at,
        CreatedBy={},
        LastModifiedBy={},
        ParallelismConfiguration=parallelism_configuration(pipeline.max_parallel),
        PipelineVersionDisplayName=version.display_name,
        PipelineVersionDescription=version.description,
        PipelineVersionAliases=sorted(version.aliases) or None,
    )


def list_pipelines(call: Call) -> dict[str, Any]:
    """
    List the pipelines that were created; with ``ManagedBy`` AWS, those that AWS
    manages.
    """
    request = call.request
    prefix = request.get("PipelineNamePrefix", "")
    matching = [
        pipeline
        for pipeline in call.region.pipelines.values()
        if pipeline.name.startswith(prefix)
        and created_within(pipeline.created_at, request)
        and pipeline.is_managed is (request.get("ManagedBy") == "AWS")
    ]

    def sort_key(pipeline: Pipeline) -> tuple[Any, ...]:
        if request.get("SortBy") == "Name":
            return (pipeline.name, pipeline.created_at)
        return (pipeline.created_at, pipeline.name)

    selected, token = page(matching, sort_key, request)
    summaries = [_summary(pipeline) for pipeline in selected]
    return {"PipelineSummaries": summaries, **token}


def list_pipeline_versions(call: Call) -> dict[str, Any]:
    """List the versions of a pipeline."""
    pipeline = call.region.pipeline(call.request["PipelineName"])
    matching = [
        version
        for version in pipeline.versions
        if created_within(version.created_at, call.request)
    ]
    versions, token = page(matching, lambda version: (version.id,), call.request)
    summaries = [
        omit_none(
            PipelineArn=pipeline.arn,
            PipelineVersionId=version.id,
            CreationTime=version.created_at,
            PipelineVersionDescription=version.description,
            PipelineVersionDisplayName=version.display_name,
            LastExecutionPipelineExecutionArn=version.last_execution_arn,
            PipelineVersionAliases=sorted(version.aliases) or None,
        )
        for version in versions
    ]
    return {"PipelineVersionSummaries": summaries, **token}


def update_pipeline_version(call: Call) -> dict[str, Any]:
    """
    Change the display name, the description or the aliases of a version.

    AWS does not document what happens if another version has an alias that is added, or
    if the version does not have one that is removed. Here, the first is a conflict, and
    the second does nothing.
    """
    request = call.request
    pipeline = call.region.pipeline(request["PipelineArn"])
    if pipeline.is_managed:
        # AWS does not document how it refuses this. The members of the other operations
        # accept no such ARN.
        raise invalid(
            f"Pipeline '{pipeline.arn}' can't be changed, because AWS manages it."
        )
    version = pipeline.version(request["PipelineVersionId"])
    changes = request.get("PipelineVersionAliasOperations", {})
    added = set(changes.get("Add", ()))
    _check_aliases(pipeline, added - version.aliases)
    aliases = (version.aliases - set(changes.get("Remove", ()))) | added
    if len(aliases) > _MAX_ALIASES:
        raise invalid(f"A pipeline version can have at most {_MAX_ALIASES} aliases.")
    version.aliases = aliases
    version.display_name = request.get(
        "PipelineVersionDisplayName", version.display_name
    )
    version.description = request.get("PipelineVersionDescription", version.description)
    return {"PipelineArn": pipeline.arn, "PipelineVersionId": version.id}


def add_tags(call: Call) -> dict[str, Any]:
    """Add tags to a pipeline, or replace their values."""
    pipeline = call.region.pipeline(call.request["ResourceArn"])
    tags = pipeline.tags | _tags(call.request["Tags"])
    if len(tags) > _MAX_TAGS:
        raise ApiError(
            "ResourceLimitExceeded", f"A resource can have at most {_MAX_TAGS} tags."
        )
    pipeline.tags = tags
    return {"Tags": tags_of(pipeline)}


def delete_tags(call: Call) -> dict[str, Any]:
    """Remove tags from a pipeline."""
    pipeline = call.region.pipeline(call.request["ResourceArn"])
    for key in call.request["TagKeys"]:
        pipeline.tags.pop(key, None)
    return {}


def list_tags(call: Call) -> dict[str, Any]:
    """
    List the tags of a pipeline. A pipeline has at most fifty tags, so they always fit
    on one page.
    """
    return {"Tags": tags_of(call.region.pipeline(call.request["ResourceArn"]))}


def tags_of(pipeline: Pipeline) -> list[dict[str, str]]:
    """Return the tags of a pipeline."""
    return [
        {"Key": key, "Value": value} for key, value in sorted(pipeline.tags.items())
    ]


def _tags(entries: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """
    Return the tags of a request.

    There is no public text of either refusal.
    """
    tags: dict[str, str] = {}
    for entry in entries:
        key = entry["Key"]
        if key.lower().startswith(_RESERVED_TAGS):
            raise invalid(f"Tag key '{key}' has the reserved prefix {_RESERVED_TAGS}")
        if key in tags:
            raise invalid(f"Tag key '{key}' is specified more than once.")
        tags[key] = entry["Value"]
    return tags


def created_within(created_at: float, request: Mapping[str, Any]) -> bool:
    """
    Return whether a time is between ``CreatedAfter`` and ``CreatedBefore`` of a
    request, if it has them.
    """
    after = request.get("CreatedAfter")
    if after is not None and created_at <= after:
        return False
    before = request.get("CreatedBefore")
    return before is None or created_at < before


def _summary(pipeline: Pipeline) -> dict[str, Any]:
    return omit_none(
        PipelineArn=pipeline.arn,
        PipelineName=pipeline.name,
        PipelineDisplayName=pipeline.display_name or pipeline.name,
        PipelineDescription=pipeline.description,
        RoleArn=pipeline.role_arn,
        CreationTime=pipeline.created_at,
        LastModifiedTime=pipeline.modified_at,
        LastExecutionTime=pipeline.last_run_at,
    )


def _definition(call: Call) -> Definition | None:
    """Return the definition in a request, or in S3; None if the request has none."""
    text: str | None = call.request.get("PipelineDefinition")
    location = call.request.get("PipelineDefinitionS3Location")
    if text is not None and location is not None:
        raise invalid(
            "Specify either PipelineDefinition or PipelineDefinitionS3Location, not"
            " both."
        )
    if location is not None:
        content = call.services.read_object(
            location["Bucket"], location["ObjectKey"], location.get("VersionId")
        )
        text = content.decode(errors="replace")
    if text is None:
        return None
    try:
        return checked(text, call.limits.max_steps, call.limits.lenient)
    except DefinitionError as error:
        _LOG.warning("Refused a definition: %s", error.places)
        raise ApiError(
            "ValidationException", unable_to_parse(str(error)), detail=error.places
        ) from error


def _add_version(
    pipeline: Pipeline, definition: Definition, request: Mapping[str, Any], now: float
) -> None:
    aliases = set(request.get("PipelineVersionAliases", ()))
    _check_aliases(pipeline, aliases)
    number = len(pipeline.versions) + 1
    pipeline.versions.append(Version(number, definition, now, aliases))


def _check_aliases(pipeline: Pipeline, aliases: set[str]) -> None:
    """Check that a version of a pipeline can get aliases."""
    used_aliases = {
        alias for version in pipeline.versions for alias in version.aliases & aliases
    }
    if used_aliases:
        raise conflict(
            f"Pipeline '{pipeline.arn}' already has the version aliases"
            f" {sorted(used_aliases)}."
        )
    if any(alias.isdigit() for alias in aliases):
        raise invalid("A pipeline version alias can't consist of numbers only.")


OPERATIONS: Mapping[str, Operation] = {
    "CreatePipeline": create_pipeline,
    "UpdatePipeline": update_pipeline,
    "DeletePipeline": delete_pipeline,
    "DescribePipeline": describe_pipeline,
    "ListPipelines": list_pipelines,
    "ListPipelineVersions": list_pipeline_versions,
    "UpdatePipelineVersion": update_pipeline_version,
}
# All SageMaker resources have these operations. The emulator handles them for
# pipelines, moto for the others.
TAG_OPERATIONS: Mapping[str, Operation] = {
    "AddTags": add_tags,
    "DeleteTags": delete_tags,
    "ListTags": list_tags,
}

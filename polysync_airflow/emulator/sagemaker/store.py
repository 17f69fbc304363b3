"""The pipelines of one region: their versions, executions and the request tokens already used.

ARNs carry the pipeline name in lower case, so names are compared without regard to case. How long AWS keeps
a ClientRequestToken, and what it answers when one comes again with another request, is not documented: here
tokens are kept for ever and the second request is a ConflictException.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polysync_airflow.emulator.engine.definition import Definition
from polysync_airflow.emulator.engine.execution import Execution
from polysync_airflow.emulator.errors import conflict, not_found

ACCOUNT = "123456789012"
_PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"))


def partition(region: str) -> str:
    """Return the AWS partition of a region."""
    return next((name for prefix, name in _PARTITIONS if region.startswith(prefix)), "aws")


def resource_arn(region: str, kind: str, name: str) -> str:
    """Return the ARN of a SageMaker resource, whether it exists or not."""
    return f"arn:{partition(region)}:sagemaker:{region}:{ACCOUNT}:{kind}/{name}"


@dataclass
class Version:
    """One version of a pipeline."""

    id: int
    definition: Definition
    created_at: float
    aliases: set[str] = field(default_factory=set)
    last_execution_arn: str | None = None


@dataclass
class Pipeline:
    """One pipeline; times are in seconds since the epoch."""

    name: str
    arn: str
    role_arn: str
    created_at: float
    versions: list[Version]
    display_name: str | None = None
    description: str | None = None
    max_parallel: int | None = None
    modified_at: float = 0.0
    last_run_at: float | None = None
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def version(self, version_id: int | None = None, alias: str | None = None) -> Version:
        """Return the latest version, or the one with an id or alias.

        :raises ApiError: ResourceNotFound if there is none.
        """
        if version_id is None and alias is None:
            return self.versions[-1]
        for version in self.versions:
            if version.id == version_id or alias in version.aliases:
                return version
        wanted = f"alias '{alias}'" if version_id is None else f"id '{version_id}'"
        raise not_found(f"Pipeline '{self.arn}' has no version with {wanted}.")


@dataclass
class ExecutionRecord:
    """One execution as the API sees it, around the engine's."""

    arn: str
    id: str
    pipeline: Pipeline
    version: Version
    engine: Execution
    request: Mapping[str, Any]
    display_name: str | None = None
    description: str | None = None


class Region:
    """Everything one region knows.

    :param name: such as ``us-east-1``.
    :param seed: from which ids are derived, so that the same requests give the same ids.
    """

    def __init__(self, name: str, seed: str) -> None:
        self.name = name
        self._seed = seed
        self.pipelines: dict[str, Pipeline] = {}
        #: How many executions have been started, those of deleted pipelines included.
        self.started = 0
        self._tokens: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a SageMaker resource of this region."""
        return resource_arn(self.name, kind, name)

    def identifier(self, length: int, *parts: object) -> str:
        """Return an id of lower-case letters and digits that depends only on the seed and ``parts``."""
        digest = hashlib.sha256("/".join(map(str, (self._seed, self.name, *parts))).encode()).digest()
        number, letters = int.from_bytes(digest, "big"), "abcdefghijklmnopqrstuvwxyz0123456789"
        return "".join(letters[number // 36**place % 36] for place in range(length))

    def pipeline(self, name_or_arn: str) -> Pipeline:
        """Find a pipeline.

        :raises ApiError: ResourceNotFound.
        """
        wanted = name_or_arn if name_or_arn.startswith("arn:") else self.arn("pipeline", name_or_arn.lower())
        for pipeline in self.pipelines.values():
            if pipeline.arn == wanted:
                return pipeline
        raise not_found(f"Pipeline '{wanted}' does not exist.")

    def execution(self, arn: str) -> ExecutionRecord:
        """Find an execution.

        :raises ApiError: ResourceNotFound.
        """
        for pipeline in self.pipelines.values():
            if arn in pipeline.executions:
                return pipeline.executions[arn]
        raise not_found(f"Pipeline execution '{arn}' does not exist.")

    def executions(self) -> Iterable[ExecutionRecord]:
        """Return all executions of all pipelines."""
        return [record for pipeline in self.pipelines.values() for record in pipeline.executions.values()]

    def once(
        self, operation: str, request: Mapping[str, Any], perform: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Perform a request unless its token has been used; then return the first answer.

        A request that was refused leaves no trace: its token can be used again.

        :raises ApiError: ConflictException if the token was used for another request.
        """
        token = request.get("ClientRequestToken")
        if token is None:
            return perform()
        fingerprint = json.dumps(request, sort_keys=True, default=str)
        known = self._tokens.get((operation, token))
        if known is None:
            answer = perform()
            self._tokens[operation, token] = (fingerprint, answer)
            return answer
        if known[0] != fingerprint:
            raise conflict(f"ClientRequestToken '{token}' was already used for another {operation} request.")
        return known[1]

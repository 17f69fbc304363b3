"""
The state of a region: its pipelines with their versions and executions, and the used
ClientRequestTokens.

ARNs contain the pipeline name as it was written, like those of AWS since about 2023.
AWS does not document whether it finds pipelines by a name in another case; the emulator
does. Nor does it document how long it keeps a ClientRequestToken, and how it responds
to a token that is used for a different request. The emulator keeps the token of a start
as long as its execution, all others without limit, and responds with ConflictException.

Each region has one pipeline that AWS manages. Its ARN has ``aws`` in place of an
account; its executions are the account's:
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-managed.html

An execution that has ended is kept in a compact form, from which each read makes a new
record. Whoever changes it must `Region.reopen` it. AWS does not document how long it
keeps executions; here, only a number of them stay, the latest ends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from moto.utilities.utils import PARTITION_NAMES, get_partition

from sagemaker_emulator.engine.definition import Definition, Step, parse
from sagemaker_emulator.engine.execution import Execution
from sagemaker_emulator.engine.scenarios import Scenario
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.engine.warm_pools import WarmPool, WarmPools
from sagemaker_emulator.errors import conflict, not_found
from sagemaker_emulator.sagemaker.compact import Compact, compacted, expanded

ACCOUNT = "123456789012"
START: Final = "StartPipelineExecution"
#: The role of the account, and the session of it that signs in with any access key.
DEFAULT_ROLE = "SageMakerRole"
DEFAULT_SESSION = "emulator"
#: The partitions of AWS that the emulator has: those for which moto keeps users.
PARTITIONS = tuple(PARTITION_NAMES)
_MANAGED: Final = Path(__file__).parents[1] / "definitions" / "managed"
_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
# Stands in place of an account in the ARN of a pipeline that AWS manages.
_AWS: Final = "aws"
#: The statuses of executions that have not ended.
RUNNING: Final = ("Executing", "Stopping")
# Stands in place of the number of a run for the status of the execution itself.
_OF_THE_EXECUTION = 0


def partition(region: str) -> str:
    """Return the AWS partition of a region."""
    name: str = get_partition(region)
    return name


def resource_arn(region: str, kind: str, name: str, account: str = ACCOUNT) -> str:
    """Return the ARN of a SageMaker resource. The resource does not have to exist."""
    return f"arn:{partition(region)}:sagemaker:{region}:{account}:{kind}/{name}"


@cache
def _managed_definitions() -> Mapping[str, Definition]:
    return {
        path.stem: parse(path.read_text()) for path in sorted(_MANAGED.glob("*.json"))
    }


@dataclass
class Version:
    """A version of a pipeline."""

    id: int
    definition: Definition
    created_at: float
    aliases: set[str] = field(default_factory=set)
    display_name: str | None = None
    description: str | None = None
    last_execution_arn: str | None = None


@dataclass
class Pipeline:
    """
    A pipeline. Times are Unix times.

    :param role_arn: its role; None if AWS manages it, and each start names one.
    """

    name: str
    arn: str
    role_arn: str | None
    created_at: float
    versions: list[Version]
    executions: Executions
    display_name: str | None = None
    description: str | None = None
    max_parallel: int | None = None
    modified_at: float = 0.0
    last_run_at: float | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_managed(self) -> bool:
        """Whether AWS manages the pipeline."""
        return self.role_arn is None

    def version(
        self, version_id: int | None = None, alias: str | None = None
    ) -> Version:
        """
        Return a version of the pipeline: the one with the id or the alias, or the
        latest one.

        :param version_id: the version id.
        :param alias: the version alias.
        :raises ApiError: ResourceNotFound if it does not exist.
        """
        if version_id is None and alias is None:
            return self.versions[-1]
        for version in self.versions:
            if version.id == version_id or alias in version.aliases:
                return version
        requested = f"id '{version_id}'"
        if version_id is None:
            requested = f"alias '{alias}'"
        raise not_found(f"Pipeline '{self.arn}' has no version with {requested}.")


@dataclass(frozen=True)
class StatusChange:
    """
    A change of the status of an execution or of a step.

    :param at: the time, as Unix time.
    :param run: the run of the step; None for the execution.
    :param previous: the status before; None for the first one.
    """

    at: float
    run: StepRun | None
    previous: str | None
    current: str


class RecordedExecution(Execution):
    """
    An execution that remembers when its status, and those of its steps, have changed.
    """

    def __post_init__(self) -> None:
        self.changes: list[StatusChange] = []
        #: The latest status of each run that was noted, by the number of the run.
        self._noted: dict[int, str] = {}
        super().__post_init__()
        # A step that reuses the results of another execution does not run, so its
        # status does not change.
        self._noted |= {run.order: run.status for run in self.history}
        self._note_changes(self.created_at)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, without what the scenario writes to the scope."""
        scope = replace(self.scope, property_files={}, metrics={})
        return {**vars(self), "scope": scope}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the attributes of an execution in its compact form."""
        vars(self).update(state)
        self.scenario.write_to(self.scope)

    def stop(self, now: float) -> None:
        """Request a stop."""
        super().stop(now)
        self._note_changes(now)

    def retry(self, now: float, scenario: Scenario, max_parallel: float) -> None:
        """Run all steps again that have not succeeded."""
        super().retry(now, scenario, max_parallel)
        self._note_changes(now)

    def _schedule(self, at: float) -> None:
        super()._schedule(at)
        self._note_changes(at)

    def _note_changes(self, at: float) -> None:
        # In the order of the causes: an execution ends after its last step.
        for run in self.history:
            self._note_status(at, run.order, run, run.status)
        self._note_status(at, _OF_THE_EXECUTION, None, self.status)

    def _note_status(
        self, at: float, key: int, run: StepRun | None, status: str
    ) -> None:
        previous = self._noted.get(key)
        if status != previous:
            self._noted[key] = status
            self.changes.append(StatusChange(at, run, previous, status))


@dataclass
class ExecutionRecord:
    """
    An execution as the API knows it. ``engine`` simulates it.

    :param order: how many executions of the region have started before it.
    :param created_by: ``Arn`` and ``PrincipalId`` of its creator; empty if unknown.
    :param model_packages: the ARNs of the model packages that its steps have created,
        by step name.
    :param properties: the properties of the steps that have a job, by the numbers of
        their runs.
    :param sent_changes: how many of the changes of its statuses were sent to
        EventBridge.
    :param logged: the attempts whose logs are complete, by step and number.
    :param written: the attempts whose files are written, in the same form.
    :param messages: the messages of Callback steps that are sent: number of the run,
        attempt, status.
    """

    arn: str
    id: str
    order: int
    pipeline: Pipeline
    version: Version
    engine: RecordedExecution
    request: Mapping[str, Any]
    display_name: str | None = None
    description: str | None = None
    created_by: Mapping[str, str] = field(default_factory=dict)
    model_packages: dict[str, str | None] = field(default_factory=dict)
    properties: dict[int, dict[str, Any]] = field(default_factory=dict)
    sent_changes: int = 0
    logged: set[tuple[str, int]] = field(default_factory=set)
    written: set[tuple[str, int]] = field(default_factory=set)
    messages: set[tuple[int, int, str | None]] = field(default_factory=set)

    @property
    def created_at(self) -> float:
        """When the execution has started."""
        return self.engine.created_at

    @property
    def has_ended(self) -> bool:
        """Whether the execution has ended, at the time to which it was advanced."""
        return self.engine.status not in RUNNING

    @property
    def keys(self) -> bytes:
        """What `Executions.using` finds it by."""
        keys: list[bytes] = []
        for run in self.engine.history:
            if run.callback_token:
                keys.append(search_key(run.callback_token))
            # A run without an attempt has reused the results of another one.
            if run.cache_key and run.attempts and run.status == "Succeeded":
                keys.append(search_key(run.step.name, run.cache_key))
        return b"".join(keys)

    @property
    def role_arn(self) -> str:
        """The role under which the steps run."""
        return self.pipeline.role_arn or str(self.request["RoleArn"])

    @property
    def shown_display_name(self) -> str:
        """The display name in responses and events."""
        return self.display_name or f"execution-{int(self.engine.created_at * 1000)}"


@dataclass(slots=True)
class EndedExecution:
    """
    An execution that has ended.

    :param ended_at: the time of its last change.
    :param keys: what `Executions.using` finds it by.
    :param logged: whether its logs are complete.
    """

    arn: str
    version: Version
    created_at: float
    ended_at: float
    keys: bytes
    record: Compact
    logged: bool = False


class Executions:
    """The executions of a pipeline, in the order of their starts."""

    def __init__(self) -> None:
        self._all: dict[str, ExecutionRecord | EndedExecution] = {}
        # The bytes of the first that has ended, and the objects that it shares.
        self._example = b""
        self._shared: tuple[Any, ...] = ()
        #: Those that are not in their compact form.
        self.open: dict[str, ExecutionRecord] = {}

    def entries(self) -> Iterable[ExecutionRecord | EndedExecution]:
        """Return all executions as they are kept."""
        return self._all.values()

    def records(self) -> Iterator[ExecutionRecord]:
        """Yield all executions."""
        for entry in list(self._all.values()):
            yield _record_of(entry)

    def get(self, arn: str) -> ExecutionRecord | None:
        """Return an execution by its ARN; None if it does not exist."""
        entry = self._all.get(arn)
        if entry is None:
            return None
        return _record_of(entry)

    def set_open(self, record: ExecutionRecord) -> None:
        """Keep an execution as it is."""
        self._all[record.arn] = record
        self.open[record.arn] = record

    def set_ended(self, record: ExecutionRecord) -> None:
        """Keep an execution that has ended in the compact form."""
        # All of them are sent.
        record.engine.changes.clear()
        record.sent_changes = 0
        # They can be had again from the descriptions of the jobs.
        record.properties.clear()
        compact = compacted(record, _is_shared, self._example)
        if [*map(id, compact.shared)] == [*map(id, self._shared)]:
            compact = compact._replace(shared=self._shared)
        self._shared = compact.shared
        self._example = self._example or compact.decompressed()
        self._all[record.arn] = EndedExecution(
            arn=record.arn,
            version=record.version,
            created_at=record.created_at,
            ended_at=record.engine.last_modified,
            keys=record.keys,
            record=compact,
        )
        del self.open[record.arn]

    def remove(self, arn: str) -> None:
        """Forget an execution that has ended."""
        del self._all[arn]

    def using(self, key: bytes, before: str | None = None) -> Iterator[ExecutionRecord]:
        """
        Yield the executions that may have a step with a cache key or a callback token:
        those that are open, and then others, the latest end first.

        :param key: the key, of `search_key`.
        :param before: the ARN of an execution; only earlier ones are returned.
        """
        ended: list[EndedExecution] = []
        for entry in list(self._all.values()):
            if entry.arn == before:
                break
            if not isinstance(entry, EndedExecution):
                yield entry
            elif key in entry.keys:
                ended.append(entry)
        for entry in sorted(ended, key=lambda entry: entry.ended_at, reverse=True):
            yield _record_of(entry)

    def unlogged(self) -> Iterator[ExecutionRecord]:
        """
        Yield the executions whose logs may be incomplete. Those of the ones that have
        ended are complete afterwards.
        """
        for entry in list(self._all.values()):
            if not isinstance(entry, EndedExecution):
                yield entry
            elif not entry.logged:
                yield _record_of(entry)
                entry.logged = True


def _record_of(entry: ExecutionRecord | EndedExecution) -> ExecutionRecord:
    if isinstance(entry, EndedExecution):
        record: ExecutionRecord = expanded(entry.record)
        return record
    return entry


def _is_shared(value: Any) -> bool:
    if isinstance(value, Step):
        # The steps of an iteration belong to their execution.
        return value.iteration is None
    return type(value) in _SHARED


def search_key(*parts: str) -> bytes:
    """Return some bytes that depend on texts only, and most likely on no others."""
    return _digest(parts)[:8]


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()[:16]


class Region:
    """
    The pipelines and the used ClientRequestTokens of one region.

    :param name: the name of the region, such as ``us-east-1``.
    :param seed: the text from which ids are derived, so that the same requests create
        the same ids.
    :param models: returns the names of the models that clients have created.
    """

    def __init__(
        self, name: str, seed: str, models: Callable[[], Collection[str]] = tuple
    ) -> None:
        self.name = name
        self.models = models
        self._seed = seed
        #: Returns what says why a role may not make a call; None if all roles may.
        self.authorizer: Callable[[], Callable[[Any], str | None] | None] = lambda: None
        #: By the names in lower case, those that AWS manages by their ARNs.
        self.pipelines: dict[str, Pipeline] = {}
        for pipeline_name, definition in _managed_definitions().items():
            arn = resource_arn(name, "pipeline", pipeline_name, _AWS)
            self.pipelines[arn] = Pipeline(
                name=pipeline_name,
                arn=arn,
                role_arn=None,
                created_at=0.0,
                versions=[Version(1, definition, 0.0)],
                executions=Executions(),
            )
        #: The number of started executions, including those of deleted pipelines.
        self.started = 0
        self.warm_pools = WarmPools()
        #: Whether a training job may have left its instances in a warm pool.
        self.keeps_instances = False
        # The pipelines of the executions that have ended, by their ARNs, in the order
        # of the ends.
        self._ended: dict[str, Pipeline] = {}
        # The digest and the response of each request, by operation and token.
        self._tokens: dict[bytes, tuple[bytes, dict[str, Any]]] = {}

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a SageMaker resource in this region."""
        return resource_arn(self.name, kind, name)

    def identifier(self, length: int, *parts: object) -> str:
        """
        Return an id of lower-case letters and digits that depends only on the seed, the
        region and ``parts``.
        """
        source = "/".join(str(part) for part in (self._seed, self.name, *parts))
        digest = hashlib.sha256(source.encode()).digest()
        number = int.from_bytes(digest, "big")
        base = len(_ID_CHARACTERS)
        return "".join(
            _ID_CHARACTERS[number // base**place % base] for place in range(length)
        )

    def pipeline(self, name_or_arn: str) -> Pipeline:
        """
        Return a pipeline.

        :param name_or_arn: the name or the ARN of the pipeline.
        :raises ApiError: ResourceNotFound if it does not exist.
        """
        arn = name_or_arn
        if not name_or_arn.startswith("arn:"):
            arn = self.arn("pipeline", name_or_arn)
        for pipeline in self.pipelines.values():
            if pipeline.arn.lower() == arn.lower():
                return pipeline
        raise not_found(f"Pipeline '{arn}' does not exist.")

    def execution(self, arn: str) -> ExecutionRecord:
        """
        Return an execution.

        :param arn: the ARN of the execution.
        :raises ApiError: ResourceNotFound if it does not exist.
        """
        for pipeline in self.pipelines.values():
            record = pipeline.executions.get(arn)
            if record is not None:
                return record
        raise not_found(f"Pipeline execution '{arn}' does not exist.")

    def execution_with_token(self, token: str, now: float) -> ExecutionRecord | None:
        """
        Return the execution whose callback step has a token; None if it does not exist.
        """
        for pipeline in self.pipelines.values():
            for record in pipeline.executions.using(search_key(token)):
                record.engine.advance(now)
                for run in record.engine.runs.values():
                    if run.callback_token == token:
                        return record
        return None

    def execution_arn(self, pipeline: Pipeline, identifier: str) -> str:
        """
        Return the ARN of an execution, which belongs to the account even if AWS manages
        the pipeline.
        """
        return self.arn("pipeline", f"{pipeline.name}/execution/{identifier}")

    def execution_with_id(self, identifier: str) -> ExecutionRecord | None:
        """
        Return the execution with an id, which is the end of its ARN; None if it does
        not exist.
        """
        for pipeline in self.pipelines.values():
            record = pipeline.executions.get(self.execution_arn(pipeline, identifier))
            if record is not None:
                return record
        return None

    def advance(self, now: float) -> None:
        """Advance all executions to the present."""
        for record in self.open_executions():
            record.engine.advance(now)

    def executions(self) -> Iterator[ExecutionRecord]:
        """Yield all executions of all pipelines."""
        for pipeline in list(self.pipelines.values()):
            yield from pipeline.executions.records()

    def open_executions(self) -> list[ExecutionRecord]:
        """
        Return the executions of all pipelines that have not ended, or have ended since
        the last request.
        """
        return [
            record
            for pipeline in self.pipelines.values()
            for record in pipeline.executions.open.values()
        ]

    def reopen(self, arn: str) -> ExecutionRecord:
        """
        Return an execution that is about to change.

        :param arn: the ARN of the execution.
        :raises ApiError: ResourceNotFound if it does not exist.
        """
        record = self.execution(arn)
        record.pipeline.executions.set_open(record)
        self._ended.pop(arn, None)
        return record

    def close(self, record: ExecutionRecord, limit: int) -> None:
        """
        Keep an execution that has ended in its compact form, and forget the oldest such
        executions.

        :param record: the execution. Everything that it has produced is published,
            except its logs.
        :param limit: how many are kept.
        """
        record.pipeline.executions.set_ended(record)
        self._ended[record.arn] = record.pipeline
        while len(self._ended) > limit:
            arn = next(iter(self._ended))
            token = self.execution(arn).request.get("ClientRequestToken")
            self._tokens.pop(_digest([START, token]), None)
            self._ended.pop(arn).executions.remove(arn)

    def delete(self, pipeline: Pipeline) -> None:
        """Delete a pipeline and its executions."""
        del self.pipelines[pipeline.name.lower()]
        for entry in pipeline.executions.entries():
            self._ended.pop(entry.arn, None)

    def run_idempotently(
        self,
        operation: str,
        request: Mapping[str, Any],
        perform: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """
        Perform a request, or return the first response if its ClientRequestToken has
        been used.

        A token of a request that failed is not used: another request can use it.

        :param operation: the name of the operation.
        :param request: the request, with or without a ``ClientRequestToken``.
        :param perform: performs the request and returns the response.
        :raises ApiError: ConflictException if the token was used for a different
            request.
        """
        token = request.get("ClientRequestToken")
        if token is None:
            return perform()
        key = _digest([operation, token])
        fingerprint = _digest(request)
        if key not in self._tokens:
            response = perform()
            self._tokens[key] = (fingerprint, response)
            return response
        first_fingerprint, first_response = self._tokens[key]
        if first_fingerprint != fingerprint:
            raise conflict(
                f"ClientRequestToken '{token}' was already used for another {operation}"
                " request."
            )
        return first_response


# They belong to others than an execution, too.
_SHARED: Final = frozenset({Region, Pipeline, Version, Definition, WarmPool})

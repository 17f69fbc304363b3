"""
Decides whether a record that was read back is one that this task has written.

With a Fernet key, the signature decides. Without one, the record must fit what the task itself would start:
its pipeline, region, account and role.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.models import StoredExecution, account_from_arn, region_from_arn
from polysync_airflow.execution.texts import clean_text, describe_validation_error
from polysync_airflow.get_provider_info import ACCEPT_UNSIGNED_RECORDS
from polysync_airflow.records.signature import SIGNATURE, TaskKey, is_genuine, signed, signing_keys

# Running tasks have stored their record under this key, and its copy under the same XCom key. With another
# key, their next try would not find the record and would start a second execution.
RECORD_KEY: Final = "polysync_execution"


@dataclass(frozen=True)
class OwnTarget:
    """
    What a task would start now. Without a signature, its record must be about the same.

    :param pipeline_name: name or ARN of the pipeline.
    :param region_name: AWS region.
    :param account_id: AWS account of the pipeline.
    :param execution_role_arn: the role that the start request names; None if it names none.
    :param role_is_known: whether ``execution_role_arn`` is compared.
    """

    pipeline_name: str
    region_name: str | None
    account_id: str
    execution_role_arn: str | None = None
    role_is_known: bool = True

    @classmethod
    def of_execution(cls, execution_arn: str) -> OwnTarget:
        """
        Return the target of an execution, for a process that has only its ARN.

        :param execution_arn: ARN of the execution, from a source that is proven.
        """
        pipeline, region = execution_arn.partition("/execution/")[0], region_from_arn(execution_arn)
        return cls(pipeline, region, account_from_arn(execution_arn), role_is_known=False)


def to_stored(record: StoredExecution, task: TaskKey) -> dict[str, Any]:
    """
    Return the JSON-able form of a record, signed if the deployment has a key.

    :param record: the record.
    :param task: the task instance that writes it.
    """
    values = record.model_dump(mode="json")
    keys = signing_keys()
    return signed(values, task, keys[0]) if keys else values


def from_stored(
    value: Any, task: TaskKey, own_target: Callable[[], OwnTarget], *, place: str
) -> StoredExecution:
    """
    Return the record that a stored value holds.

    :param value: what was read.
    :param task: the task instance that reads it.
    :param own_target: returns what the task would start; called only for a record without a signature.
    :param place: where the value is, and what a user must delete if it is refused.
    :raises StoredRecordError: the value is not a record of this task instance.
    """
    values = dict(value) if isinstance(value, Mapping) else value
    signature = values.pop(SIGNATURE, None) if isinstance(values, dict) else None
    try:
        record = StoredExecution.model_validate(values)
    except ValidationError as error:
        problems = describe_validation_error(error)
        raise _refused(f"is damaged ({problems})", place) from None
    keys = signing_keys()
    if keys and not (signature is None and _unsigned_is_accepted()):
        if not is_genuine(values, signature, task, keys):
            raise _refused(f"is not proven: {_why_not_genuine(signature)}", place)
    elif difference := _difference(record, own_target()):
        raise _refused(
            f"is not proven: it has no signature, and it is not about what this task starts: {difference}",
            place,
        )
    return record


def _unsigned_is_accepted() -> bool:
    return bool(conf.getboolean(*ACCEPT_UNSIGNED_RECORDS, fallback=False))


def _why_not_genuine(signature: Any) -> str:
    if signature is None:
        section, option = ACCEPT_UNSIGNED_RECORDS
        return (
            "it has no signature. Somebody edited it, or an earlier version of this provider wrote it (then "
            f"set [{section}] {option} = True until the tasks of that version have ended)"
        )
    return (
        "its signature is not that of this task. Somebody edited it or copied it from another task, or the "
        "host that wrote it has another [core] fernet_key than this host"
    )


def _difference(record: StoredExecution, own: OwnTarget) -> str | None:
    """Return how a record differs from what the task would start; None if it does not."""
    request, arn = record.request, record.execution_arn
    comparisons: list[tuple[str, str | None, str | None]] = [
        ("pipeline", _name(request.pipeline_name), _name(own.pipeline_name)),
        ("region", record.region_name, own.region_name),
    ]
    if own.role_is_known:
        comparisons += [("execution role", request.execution_role_arn, own.execution_role_arn)]
    if arn:
        comparisons += [
            ("pipeline of the execution", _name(arn.partition("/execution/")[0]), _name(own.pipeline_name)),
            ("region of the execution", region_from_arn(arn), own.region_name),
            ("account of the execution", account_from_arn(arn), own.account_id),
        ]
    for name, stored, mine in comparisons:
        if stored != mine:
            return clean_text(f"the {name} is {stored or 'none'}, this task's is {mine or 'none'}")
    return None


def _name(pipeline: str) -> str:
    # ARNs of older pipelines have the name in lower case.
    return pipeline.rpartition(":pipeline/")[2].lower()


def _refused(problem: str, place: str) -> StoredRecordError:
    return StoredRecordError(
        f"The record that earlier tries of this task stored about their execution {problem}. Nothing was "
        "started, stopped or continued, because that execution may still be running. Look for it in the "
        f"SageMaker console, and stop it there if it is running. Then delete {place}, and clear the task."
    )

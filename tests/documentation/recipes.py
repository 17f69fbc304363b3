"""
The recipes of CONTRIBUTING, each tried with an example: what it writes into which files,
in its order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple


class Edit(NamedTuple):
    """
    One change of a file of the package.

    :param before: the text before which it writes; None for a new file. It is in the
        file once.
    """

    file: str
    before: str | None
    text: str

    def apply(self, package: Path) -> None:
        """Write the text into a copy of the package."""
        path = package / self.file
        if self.before is None:
            assert not path.exists(), self.file
            path.write_text(self.text.lstrip())
            return
        content = path.read_text()
        assert content.count(self.before) == 1, (self.file, self.before)
        path.write_text(content.replace(self.before, f"{self.text}{self.before}"))


PARAMETER: Final = [
    Edit(
        "operators/start.py",
        "    :param polysync_conn_id: Airflow connection of type",
        "    :param fleet_name: the fleet that runs the steps (templated).\n",
    ),
    Edit(
        "operators/start.py",
        "        polysync_conn_id: str = base.DEFAULT_CONNECTION,",
        "        fleet_name: str | None = None,\n",
    ),
    Edit(
        "operators/start.py",
        "        self.polysync_conn_id = polysync_conn_id\n",
        "        self.fleet_name = fleet_name\n",
    ),
    Edit(
        "execution/models.py",
        "    client_request_token: RequestToken\n",
        '    fleet_name: str | None = Field(None, description="Give a name.")\n',
    ),
    Edit(
        "execution/models.py",
        '            "RoleArn": self.execution_role_arn,\n',
        '            "FleetName": self.fleet_name,\n',
    ),
    Edit(
        "hooks/executions.py",
        '    "RoleArn": "execution_role_arn",\n',
        '    "FleetName": "fleet_name",\n',
    ),
]
FIELD: Final = [
    Edit(
        "execution/models.py",
        '    created_by: User = Field(None, validation_alias="CreatedBy")\n',
        "    version_id: int | None = Field(\n"
        '        None, validation_alias="PipelineVersionId"\n'
        "    )\n",
    ),
    Edit(
        "execution/waiter.py",
        "    started_at: models.UtcTime | None = None\n",
        "    version_id: int | None = None\n",
    ),
    Edit(
        "execution/waiter.py",
        "    warned_statuses: frozenset[str] = frozenset()\n",
        "    version_id: int | None = None\n",
    ),
    Edit(
        "execution/waiter.py",
        "            warned_statuses=warned_statuses,\n",
        "            version_id=response.version_id,\n",
    ),
    Edit(
        "execution/waiter.py",
        "            attempt_started_at=resumed_at,\n",
        "            version_id=self.version_id,\n",
    ),
    Edit(
        "execution/outcome.py",
        "    next: Plan | None = None\n\n    def is_of",
        "    version_id: int | None = None\n",
    ),
    Edit(
        "execution/outcome.py",
        '            "attempt_started_at": end.attempt_started_at,\n',
        '            "version_id": end.version_id,\n',
    ),
]
SENSOR: Final = [
    Edit(
        "execution/feature_groups.py",
        None,
        '''
"""The status of a feature group, and how a wait for it ends. Everything is pure."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import models, waiter
from polysync_airflow.execution.trigger_arguments import WaitArguments

class FeatureGroupDescription(models.AwsModel):
    status: models.Status = Field(validation_alias="FeatureGroupStatus")
    failure_reason: str | None = Field(None, validation_alias="FailureReason")

class FeatureGroupEvent(waiter.EndOfWait):
    outcome: Literal["created", "failed", "timed_out", "refused"]
    feature_group: str
    message: str | None

@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureGroupWaiter(waiter.Waiter[FeatureGroupDescription, FeatureGroupEvent]):
    feature_group: str
    status: str | None = None

    @property
    def name(self) -> str:
        return self.feature_group

    def updated(self, response: FeatureGroupDescription) -> FeatureGroupWaiter:
        return replace(self, status=response.status)

    def lines_about(
        self, response: FeatureGroupDescription, now: float
    ) -> tuple[waiter.LogLine, ...]:
        if response.status == self.status:
            return ()
        return (waiter.LogLine(logging.INFO, f"{response.status}: {self.name}"),)

    def end_of(
        self, response: FeatureGroupDescription, now: float
    ) -> FeatureGroupEvent | None:
        if response.status == "Created":
            return self.event("created", None)
        if response.status in ("CreateFailed", "Deleting", "DeleteFailed"):
            return self.event("failed", response.failure_reason)
        return None

    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> FeatureGroupEvent:
        return FeatureGroupEvent(
            outcome=outcome,
            feature_group=self.feature_group,
            message=message,
            **waiter.error_fields(error),
        )

@dataclass(kw_only=True, eq=False, repr=False)
class FeatureGroupTriggerArguments(WaitArguments):
    feature_group: str
    since: models.Timestamp
''',
    ),
    Edit(
        "sensors/feature_group.py",
        None,
        '''
"""The sensor that waits until a feature group is created."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Context

from polysync_airflow.operators import base
from polysync_airflow.sensors.base import PolysyncSensor

if TYPE_CHECKING:
    from polysync_airflow.sensors.feature_group_run import FeatureGroupRun

class PolysyncFeatureGroupSensor(PolysyncSensor):
    template_fields: Sequence[str] = ("feature_group", "polysync_conn_id", "region_name")

    def __init__(
        self,
        *,
        feature_group: str,
        deferrable: bool = base.DEFAULT_DEFERRABLE,
        start_from_trigger: bool = False,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.feature_group = feature_group
        self.deferrable = deferrable or start_from_trigger
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.start_from_trigger = start_from_trigger
        self._check_options()

    def _run_in(self, context: Context) -> FeatureGroupRun:
        from polysync_airflow.sensors.feature_group_run import FeatureGroupRun

        return FeatureGroupRun(self, context)
''',
    ),
    Edit(
        "sensors/feature_group_run.py",
        None,
        '''
"""What runs the sensor for feature groups, on a worker and in the triggerer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from polysync_airflow.airflow_compat.sdk import AirflowSensorTimeout
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.feature_groups import (
    FeatureGroupDescription,
    FeatureGroupEvent,
    FeatureGroupTriggerArguments,
    FeatureGroupWaiter,
)
from polysync_airflow.execution.waiter import Finish, check_event
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import parse, result_or_error
from polysync_airflow.operators.task_run import write_lines
from polysync_airflow.sensors.sensor_run import SensorRun
from polysync_airflow.triggers.poller import Poller, poller_for
from polysync_airflow.triggers.shared_client import SharedClient
from polysync_airflow.triggers.wait_triggers import WaitTrigger

if TYPE_CHECKING:
    from polysync_airflow.sensors.feature_group import PolysyncFeatureGroupSensor

OPERATION = "DescribeFeatureGroup"

def describe(hook: PolysyncSageMakerHook, name: str) -> FeatureGroupDescription:
    response = hook.call(OPERATION, FeatureGroupName=name)
    return parse(FeatureGroupDescription, OPERATION, response)

class FeatureGroupPoller(Poller[FeatureGroupWaiter, FeatureGroupDescription]):
    def __init__(self, connection_id: str, region_name: str | None) -> None:
        client = SharedClient(
            connection_id,
            region_name,
            polls="feature_groups",
            operations=(OPERATION,),
            model=FeatureGroupDescription,
        )
        super().__init__(client)

    def poll(
        self, waiters: Sequence[FeatureGroupWaiter], is_wanted: Callable[[], bool]
    ) -> Sequence[FeatureGroupDescription | PolysyncError]:
        name = waiters[0].feature_group
        return len(waiters) * [self.client.result(lambda hook: describe(hook, name))]

class PolysyncFeatureGroupTrigger(
    FeatureGroupTriggerArguments, WaitTrigger[FeatureGroupWaiter]
):
    def _waiter(self) -> FeatureGroupWaiter:
        return self.checked().wait_of(FeatureGroupWaiter)

    def _find_poller(self) -> FeatureGroupPoller:
        return poller_for(FeatureGroupPoller, self.polysync_conn_id, self.region_name)

class FeatureGroupRun(SensorRun[FeatureGroupEvent]):
    task: PolysyncFeatureGroupSensor
    trigger_classes = (PolysyncFeatureGroupTrigger,)
    _wait: FeatureGroupWaiter

    def begin(self, began_at: datetime) -> None:
        self._wait = FeatureGroupWaiter(
            feature_group=self.task.feature_group,
            poll_interval=self.options.poke_interval,
            since=began_at.timestamp(),
            deadline=self.deadline_from(began_at),
        )

    def poll(self) -> FeatureGroupEvent | None:
        polled = result_or_error(partial(describe, self.hook, self._wait.feature_group))
        result = self._wait.decide(polled, clock.time())
        write_lines(self.log, result.log_lines)
        if isinstance(result, Finish):
            return result.event
        self._wait = result.waiter
        return None

    def defer_wait(self) -> NoReturn:
        trigger = PolysyncFeatureGroupTrigger(
            feature_group=self._wait.feature_group,
            polysync_conn_id=self.task.polysync_conn_id,
            region_name=self.hook.region_name,
            poll_interval=self._wait.poll_interval,
            since=self._wait.since,
            deadline=self._wait.deadline,
        )
        self.task.defer(trigger=trigger, method_name="execute_complete")

    def complete(self, event: Mapping[str, Any] | None) -> str:
        return self.end(check_event(FeatureGroupEvent, event))

    def end(self, end: FeatureGroupEvent) -> str:
        if end.outcome == "timed_out":
            raise AirflowSensorTimeout(end.message)
        if end.outcome != "created":
            raise PolysyncError(f"{end.feature_group}: {end.message}", permanent=True)
        return end.feature_group
''',
    ),
    Edit(
        "sensors/__init__.py",
        "from polysync_airflow.sensors.model_approval import",
        "from polysync_airflow.sensors.feature_group import PolysyncFeatureGroupSensor\n",
    ),
    Edit(
        "sensors/__init__.py",
        '"PolysyncModelApprovalSensor", "PolysyncPipelineSensor"]',
        '"PolysyncFeatureGroupSensor", ',
    ),
    Edit(
        "auth/iam_policies.py",
        "# For a task that answers callback steps.",
        '# For the sensor of feature groups.\nFEATURE_OPERATIONS: Final = ("DescribeFeatureGroup",)\n',
    ),
    Edit(
        "auth/iam_policies.py",
        '        _allow("ReadPropertyFiles", ["GetObject"], objects, "s3"),\n',
        '        _allow("ReadFeatureGroups", FEATURE_OPERATIONS, [f"{sagemaker}feature-group/*"]),\n',
    ),
]
# By the heading of the recipe: its edits, and how many files it may have.
RECIPES: Final = {
    "An argument of a start": (PARAMETER, 5),
    "A sensor": (SENSOR, 5),
    "A field of an answer of AWS in `run`": (FIELD, 3),
}

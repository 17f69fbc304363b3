"""
Random accounts: every boundary where a response of AWS enters, in a triggerer, on a
worker and in a hook.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from botocore.config import Config

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.descriptions import (
    StepDescription,
    fit_outputs,
    fit_rows,
    outputs_by_step,
    rows_of,
)
from polysync_airflow.execution.texts import storable
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import import_jobs
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
    task_run,
)
from polysync_airflow.operators.base import ExecutionOperator
from polysync_airflow.sensors import PolysyncPipelineSensor
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, shared_client
from tests.conftest import connection
from tests.fakes.airflow_encoding import check_task, delivered, pulled
from tests.fuzz.account import ARN, STEP, Account, accounts
from tests.fuzz.account_server import QUICK, AccountServer
from tests.fuzz.measures import MEASURES
from tests.fuzz.test_inputs import check_message
from tests.strategies import fuzz
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.aws.test_invalid_responses import CALLS
from tests.unit.sensors.sessions import airflow_time  # noqa: F401 # fixture
from tests.unit.triggers.test_poller import events_of, make_trigger

pytestmark = pytest.mark.nightly

SECOND_ARN = ARN.replace("abcdefghijkl", "abcdefghijkm")
READ_TIMEOUT = 0.15
OPERATIONS: dict[str, Any] = {
    **CALLS,
    "DescribePipelineExecution": lambda hook: hook.describe_pipeline_execution(ARN),
    "StopPipelineExecution": lambda hook: hook.stop_pipeline_execution(ARN),
    "ListPipelineExecutionSteps": lambda hook: report(
        hook.list_pipeline_execution_steps(ARN)
    ),
    "DescribePipelineDefinitionForExecution": lambda hook: (
        hook.describe_pipeline_definition_for_execution(ARN)
    ),
    "GetLogEvents": lambda hook: hook.read_step_log(
        StepDescription.model_validate(STEP), 5
    ),
}


def report(steps: list[StepDescription]) -> Any:
    """Return what another task pulls of the XComs about steps."""
    rows, _ = fit_rows(rows_of(steps, [], ARN))
    outputs, _ = fit_outputs(storable(outputs_by_step(steps), []))
    return pulled(rows), pulled(outputs)


@pytest.fixture(scope="module")
def server() -> Iterator[AccountServer]:
    """The server of the account, in a process of its own."""
    with AccountServer() as server:
        yield server


@pytest.fixture
def aws(
    server: AccountServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> AccountServer:
    """
    The server for the connection, with clients that wait for it shortly. Waits of the
    provider take no time.
    """
    poller_config = shared_client._CONFIG.merge(Config(read_timeout=READ_TIMEOUT))
    monkeypatch.setattr(shared_client, "_CONFIG", poller_config)
    monkeypatch.setattr(
        "polysync_airflow.auth.base_hook.READ_TIMEOUT_SECONDS", READ_TIMEOUT
    )
    logs_config = Config(read_timeout=READ_TIMEOUT, retries={"total_max_attempts": 1})
    monkeypatch.setattr("polysync_airflow.auth.base_hook.REPORT_CONFIG", logs_config)
    monkeypatch.setattr("polysync_airflow.aws.responses.MAX_PAGES", 20)
    monkeypatch.setattr(
        "polysync_airflow.aws.concurrent_calls.RETRY_TIMEOUT_SECONDS", 0
    )
    monkeypatch.setenv(
        "AIRFLOW_CONN_POLYSYNC_DEFAULT", connection(endpoint_url=server.url)
    )
    return server


@pytest.fixture
def hook(aws: AccountServer) -> PolysyncSageMakerHook:
    """A hook that all examples share."""
    return PolysyncSageMakerHook()


@pytest.mark.parametrize("operation", OPERATIONS)
@fuzz(account=accounts)
def test_operations(
    operation: str, aws: AccountServer, hook: PolysyncSageMakerHook, account: Account
) -> None:
    """
    Each operation of the hook returns clean values, or raises an error of this
    provider.
    """
    aws.serve(account)
    try:
        result: Any = OPERATIONS[operation](hook)
    except PolysyncError as error:
        check_message(error)
    else:
        repr(result).encode()


@fuzz(account=accounts)
def test_triggers(
    aws: AccountServer, emulated_time: EmulatedTime, account: Account
) -> None:
    """
    A wait ends with an event or an error of this provider; the one beside it ends as it
    should.
    """
    aws.serve(account)
    first, second, quick = run_triggers((ARN, SECOND_ARN, QUICK), emulated_time.time())

    assert quick == "Succeeded"
    for outcome in (first, second):
        assert isinstance(outcome, str | None | PolysyncError), outcome


def run_triggers(arns: tuple[str, ...], now: float) -> list[Any]:
    """
    Run the triggers of some waits; return the status in the event, or the error, of
    each.
    """

    async def run(trigger: PolysyncPipelineExecutionTrigger) -> str | None:
        delivered(trigger.serialize()[1])
        trigger.task_instance = TaskInstance("t")  # type: ignore[assignment]
        (event,) = await events_of(trigger)
        status: str | None = delivered(event)["status"]
        return status

    async def run_all() -> list[Any]:
        watch = asyncio.create_task(MEASURES.watch_loop())
        triggers = [
            make_trigger(arn, now, deadline=now + 300, progress_interval=60.0)
            for arn in arns
        ]
        async with asyncio.timeout(60):
            results = await asyncio.gather(*map(run, triggers), return_exceptions=True)
        watch.cancel()
        return results

    return asyncio.run(run_all())


WAIT: dict[str, Any] = {"task_id": "t", "deferrable": False, "timeout": 300}
TASKS: dict[str, Callable[[], ExecutionOperator]] = {
    "start": lambda: PolysyncStartPipelineOperator(
        pipeline_name="slow",
        poll_interval=60,
        progress_interval=60,
        property_files=True,
        **WAIT,
    ),
    "stop": lambda: PolysyncStopPipelineOperator(
        execution_arn=ARN, poll_interval=60, **WAIT
    ),
    "sensor": lambda: PolysyncPipelineSensor(
        execution_arn=ARN, poke_interval=60, progress_interval=60, **WAIT
    ),
}


@pytest.mark.parametrize("make_task", TASKS.values(), ids=TASKS)
@fuzz(account=accounts)
def test_waits_on_a_worker(
    make_task: Callable[[], ExecutionOperator],
    aws: AccountServer,
    hook: PolysyncSageMakerHook,
    airflow_time: EmulatedTime,  # noqa: F811
    account: Account,
) -> None:
    """
    The task returns, or fails with an error of this provider, after a bounded time;
    Airflow stores its XComs.
    """
    aws.serve(account)
    begin = time.monotonic()
    task = make_task()
    check_task(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_run, "PolysyncSageMakerHook", lambda *_: hook)
        run = run_task(task)

    assert run.error is None or isinstance(run.error, AirflowException), run.error
    if run.error:
        check_message(run.error)
    assert time.monotonic() - begin < 60


@fuzz(account=accounts)
def test_imports(
    aws: AccountServer, hook: PolysyncSageMakerHook, account: Account
) -> None:
    """
    The import returns jobs that Airflow stores, or fails with an error of this
    provider.
    """
    aws.serve(account)
    # The threads of an import wait by the clock of the host.
    with clock.replaced_by(clock.Clock()):
        try:
            jobs = import_jobs(hook)
        except PolysyncError as error:
            check_message(error)
            return
    pulled([job.model_dump(mode="json") for job in jobs])

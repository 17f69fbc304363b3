"""The example DAGs about the approval of models run in Airflow against the emulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from threading import Event, Thread
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.testing.emulator import SageMakerEmulator
from tests.documentation.examples.test_example_dags import (
    EXAMPLES,
    dag_of,
    database,
    endpoint,
    example,
    states_of,
    xcom,
)

__all__ = ["database", "endpoint", "example"]  # fixtures

GROUP = "ChurnGroup"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churngroup/1"
PERSON = {"id": "7", "name": "Ada Lovelace"}
# Longer than a busy machine takes, and less than the timeout of a test.
WAIT_SECONDS = 240.0
pytestmark = [pytest.mark.documentation, pytest.mark.timeout(300)]


@contextmanager
def meanwhile(action: Callable[[], bool]) -> Iterator[None]:
    """
    Try an action again and again in a thread while a DAG runs; it must have returned
    True once.
    """
    over, done = Event(), Event()

    def act() -> None:
        end = time.monotonic() + WAIT_SECONDS
        try:
            while not over.wait(0.05) and time.monotonic() < end:
                if action():
                    done.set()
        finally:
            if not over.is_set():
                fail_unfinished_tasks()

    thread = Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done.is_set()


def fail_unfinished_tasks() -> None:
    """Let ``dag.test()`` end, which waits for ever for an answer that does not come."""
    model = import_module("airflow.models.taskinstance").TaskInstance
    with import_module("airflow.utils.session").create_session() as session:
        for instance in session.query(model).filter(model.end_date.is_(None)):
            instance.state = "failed"


def answer(option: str, asked: list[Any]) -> bool:
    """
    Answer the question, if it is asked, and resume the task, as Airflow's REST API
    does.
    """
    hitl, triggers = (
        import_module("airflow.models.hitl"),
        import_module("airflow.models.trigger"),
    )
    with import_module("airflow.utils.session").create_session() as session:
        questions = session.query(hitl.HITLDetail).all()
        # Until the question is stored, and the process of the task has ended. Again, if
        # dag.test() has written over the state meanwhile.
        waiting = [
            each for each in questions if each.task_instance.state == "awaiting_input"
        ]
        if not waiting:
            return False
        (question,) = waiting
        asked[:] = [(question.subject, question.body)]
        question.responded_by, question.responded_at = PERSON, datetime.now(UTC)
        question.chosen_options, question.params_input = [option], {}
        event = import_module("airflow.triggers.base").TriggerEvent(
            question.as_resume_event_payload()
        )
        triggers.handle_event_submit(
            event, task_instance=question.task_instance, session=session
        )
    return True


@pytest.mark.skipif(not CAPABILITIES.task_sdk, reason="Airflow 2 does not ask people")
def test_airflow_can_read_the_dag_that_asks(database: Any) -> None:
    """
    The nearest that a test comes on Airflow 3.2, whose ``dag.test()`` gives no answers
    to a waiting task.
    """
    assert (
        dag_of("approve_model", EXAMPLES, None).get_task("ask").subject
        == "Deploy the new churn model?"
    )


@pytest.mark.skipif(
    not CAPABILITIES.retry_policy,
    reason="dag.test() gives no answers to a waiting task",
)
@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_person_decides_whether_the_model_is_deployed(
    option: str, example: Any, endpoint: SageMakerEmulator
) -> None:
    """
    The person sees the metrics; the answer is in the model registry, and decides which
    task comes next.
    """
    metric = "validation:auc"
    endpoint.set_metric("ChurnTune", metric, 0.87)
    asked: list[Any] = []

    with meanwhile(lambda: answer(option, asked)):
        run = example("approve_model")

    ((subject, body),) = asked
    assert subject == "Deploy the new churn model?"
    assert f'"{metric}": 0.87' in body
    assert body.count("```") == 2
    states = {task_id: state for task_id, _, state in states_of(run)}
    approved = option == "Approve"
    taken, left = ("success", "skipped") if approved else ("skipped", "success")
    assert {states[each] for each in ("approve", "is_approved", "deploy")} == {taken}
    assert {states[each] for each in ("reject", "keep_the_old_model")} == {left}
    assert run.state == "success"
    described = PolysyncSageMakerHook().describe_model_package(ARN)
    assert described.approval_status == ("Approved" if approved else "Rejected")
    person = "Ada Lovelace" if approved else "a person"
    assert f"in Airflow by {person}, DAG run" in (described.approval_description or "")
    if approved:
        assert xcom(run, "deploy", "return_value") == ARN


@pytest.mark.parametrize("status", ["Approved", "Rejected"])
def test_newest_model_is_deployed_once_it_is_approved(
    status: Any, example: Any, endpoint: SageMakerEmulator
) -> None:
    """
    The task is deferred while the model waits for a person; a rejected model is not
    deployed.
    """
    hook = PolysyncSageMakerHook()
    client: Any = hook.conn
    client.create_model_package_group(ModelPackageGroupName=GROUP)
    client.create_model_package(
        ModelPackageGroupName=GROUP, ModelApprovalStatus="PendingManualApproval"
    )

    decided: list[str] = []

    def decide() -> bool:
        if decided or len(endpoint.control.calls("DescribeModelPackage")) < 3:
            return False
        hook.update_model_approval(ARN, status, "Checked")
        decided.append(status)
        return True

    with meanwhile(decide):
        run = example("deploy_approved_model")

    approved = status == "Approved"
    state = "success" if approved else "skipped"
    assert states_of(run) == [("deploy", -1, state), ("wait_for_approval", -1, state)]
    assert xcom(run, "wait_for_approval", "approval_status") == status
    if approved:
        assert xcom(run, "deploy", "return_value") == ARN

"""
``failure_text``, the text of a message about a failed task, and the notifier that sends
it. The documentation sends it by chat and e-mail.
"""

from __future__ import annotations

import copy
import json
from enum import Enum
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.prices import Cost
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.notifications import PolysyncFailureNotifier, failure_text
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer
from tests.fakes.message_receiver import MessageReceiver
from tests.tasks import Run, TaskInstance, run_task

pytestmark = pytest.mark.usefixtures("emulator", "emulated_time")

LOG_URL = "https://airflow.example.com/dags/retraining/runs/r/tasks/train"
SUBJECT = "Task train of DAG retraining has failed (try 1, run scheduled__2026-01-01T00:00:00+00:00)."


class AirflowState(str, Enum):  # noqa: UP042 # with other texts of its members
    """As Airflow's own state of a task instance."""

    FAILED = "failed"


def run_start(ti: TaskInstance | None = None, **arguments: Any) -> Run:
    """Run a task that starts an execution of ``fanout``."""
    ti = ti or TaskInstance("train")
    task = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", **arguments
    )
    run = run_task(task, ti)
    vars(ti)["log_url"] = LOG_URL
    return run


def text_of(run: Run, **changes: Any) -> list[str]:
    """
    Return the lines of the text; ``changes`` are other values of the context than those
    of the run.
    """
    context: Any = {"ti": run.ti, "exception": run.error, **changes}
    return failure_text(context).splitlines()


def fail_steps(emulator: EmulatorServer, *names: str, reason: str = "no data") -> None:
    """Let steps of the next execution fail."""
    emulator.control.put_scenario(
        {"steps": {name: {"fail": {"reason": reason}} for name in names}}
    )


def test_text_has_verdict_failed_steps_and_links(emulator: EmulatorServer) -> None:
    """
    The text has the task, the verdict, each failed step with its reason, and the links,
    but no lines of the log.
    """
    fail_steps(emulator, "Shard3", reason="AlgorithmError: no data\nin shard 3")

    run = run_start()

    subject, verdict, *rest = text_of(run)
    assert subject == SUBJECT
    assert verdict == str(run.error).splitlines()[0]
    assert verdict.startswith("Pipeline fanout failed after ")
    assert rest == [
        "Step Shard3: AlgorithmError: no data in shard 3",
        f"Execution: {run.xcoms['console_url']}",
        f"Log of the step: {run.xcoms['failed_step_log_url']}",
        f"Log of the task: {LOG_URL}",
    ]


def test_text_names_three_of_many_failed_steps(emulator: EmulatorServer) -> None:
    """Three steps are named; the text stays short."""
    client: Any = PolysyncSageMakerHook().conn
    definition = (EXAMPLE_DEFINITIONS / "fanout.json").read_text()
    client.update_pipeline(PipelineName="fanout", PipelineDefinition=definition)
    fail_steps(emulator, *(f"Shard{number}" for number in range(5)))

    lines = text_of(run_start())

    assert sum(line.startswith("Step ") for line in lines) == 3
    assert any(line.endswith("more steps have failed") for line in lines)


def test_text_has_the_reason_of_the_execution_without_failed_steps() -> None:
    """Without failed steps, the reason is that of the execution."""
    ti = run_start().ti
    ti.xcoms["run"] |= {"message": "the role does not exist", "failed_steps": []}

    assert "Reason: the role does not exist" in text_of(Run(ti))


def test_task_that_will_be_retried(emulator: EmulatorServer) -> None:
    """
    In ``on_retry_callback``, the text says that a retry follows. It names the index of
    a mapped task.
    """
    fail_steps(emulator, "Shard3")
    run = run_start(TaskInstance("train", map_index=2, max_tries=1), retries=1)
    vars(run.ti)["state"] = "up_for_retry"

    lines = text_of(run)
    assert lines[0].startswith(
        "Task train [2] of DAG retraining has failed, and will be retried (try 1, run "
    )
    (line,) = [line for line in lines if line.startswith("Next: Try 2 of ")]
    assert "starts a new execution" in line


def test_text_says_what_comes_next_after_the_last_try(emulator: EmulatorServer) -> None:
    """As the tab and the commands do: nothing, and what a person can do."""
    fail_steps(emulator, "Shard3")
    run = run_start()
    vars(run.ti)["state"] = AirflowState.FAILED

    (line,) = [
        line for line in text_of(run) if line.startswith("Next: Nothing follows")
    ]

    assert 'the task has failed. "Resume failed steps" repeats ' in line


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_text_has_the_error_of_a_task_without_an_execution(is_wrapped: bool) -> None:
    """
    The text has the error itself, also if that of Airflow before 3.3 is around it.
    """
    run = run_start(polysync_conn_id="missing")
    assert run.error
    error: BaseException = run.error
    if is_wrapped:
        error = AirflowFailException("The task uses no retries.")
        error.__cause__ = run.error

    assert text_of(run, exception=error) == [
        SUBJECT,
        *f"CredentialsError: {run.error}".splitlines(),
        f"Log of the task: {LOG_URL}",
    ]


def test_text_leads_to_the_execution_of_a_process_that_died() -> None:
    """Airflow's DAG processor gives no error. The text leads to the execution."""
    run = run_start(wait_for_completion=False)

    assert text_of(run) == [
        SUBJECT,
        "Airflow names no error. The process of the task may have died.",
        f"Execution: {run.xcoms['console_url']}",
        f"Log of the task: {LOG_URL}",
    ]


def test_error_that_is_a_text_is_cut_and_cleaned() -> None:
    """An error may also be a text. It is cut and cleaned."""
    run = run_start(wait_for_completion=False)

    assert (
        text_of(run, exception="killed\x1b[2J" + "x" * 5000)[1]
        == "killed\ufffd[2J" + "x" * 987 + "..."
    )


def test_edited_xcoms_change_no_link_and_begin_no_line(
    emulator: EmulatorServer,
) -> None:
    """
    Others can edit XComs: a link leads to the AWS console only, and no text begins a
    line.
    """
    fail_steps(emulator, "Shard3")
    run = run_start()
    step = {
        "name": "x\nStep y",
        "reason": "z\nLog of the step: https://evil.example.com",
    }
    run.xcoms["run"]["failed_steps"] = [step]
    run.xcoms.update(
        console_url="https://evil.example.com",
        failed_step_log_url="javascript:alert(1)",
    )

    assert text_of(run)[2:-1] == [
        "Step x Step y: z Log of the step: https://evil.example.com",
        f"Execution: {run.xcoms['execution_arn']}",
    ]
    run.xcoms["run"] = "a text"
    assert len(text_of(run)) > 2


def test_text_has_the_cost(emulator: EmulatorServer) -> None:
    """It is that of tab, page and commands."""
    fail_steps(emulator, "Shard3")
    run = run_start()
    cost = Cost(amount=1.5, currency="USD", prices_date="2026-11-01")
    run.xcoms["run"]["cost"] = cost.model_dump(mode="json")

    assert f"Estimated cost: {cost.text}" in text_of(run)


HOSTILE = "{{ 7 * 7 }} <!channel> {% raise %} {{ conn.slack_default.password }}"


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize("escape", [False, True])
def test_notifier_never_renders_the_text(
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    is_native: bool,
    escape: bool,
) -> None:
    """
    Neither at the first failure nor at the second one of a process. The other templates
    of the message are rendered each time.
    """
    fail_steps(emulator, "Shard3", reason=HOSTILE)
    with DAG("native", schedule=None, render_template_as_native_obj=is_native) as dag:
        pass
    other = SlackWebhookNotifier(
        text="{{ ti.task_id }} {{ ti.map_index }}: {{ failure_text }}",
        blocks=[{"text": ["{{ failure_text }}"]}],
    )
    # Airflow copies the default arguments of a DAG.
    notifier = copy.deepcopy(PolysyncFailureNotifier(other, escape=escape))

    with MessageReceiver().running() as receiver:
        value = receiver.connections()["slack_default"]
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", value)
        runs = [run_start(TaskInstance("train", map_index=index)) for index in (1, 2)]
        for run in runs:
            notifier({"ti": run.ti, "exception": run.error, "dag": dag})

    for run, message in zip(runs, map(json.loads, receiver.messages), strict=True):
        text = "\n".join(text_of(run))
        assert HOSTILE in text
        if escape:
            text = text.replace("<!channel>", "&lt;!channel&gt;")
        assert message["text"] == f"train {run.ti.map_index}: {text}"
        assert message["blocks"] == [{"text": [text]}]


def test_what_is_no_notifier_is_an_error() -> None:
    """A function would be called with the context, and send all of it."""
    notifier: Any = print

    with pytest.raises(ParametersError, match="give a notifier"):
        PolysyncFailureNotifier(notifier)

"""
Scenarios of a task group of steps: a task for each step of a pipeline, and one that
starts the execution.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from sagemaker_emulator.builders import ROLE
from tests.chaos.deployment.airflow_deployment import FIRST, SECOND
from tests.chaos.run import QUEUES_URL, Run, Steps, UnexpectedStateError
from tests.chaos.scenarios.executions import RETRY
from tests.chaos.scenarios.shared import (
    ENDED,
    SHORT_STEP,
    START,
    Scenario,
    sleep,
    wait_for_kill,
)
from tests.system.airflow.versions import INSTALLED

_FOLDER: Final = Path(__file__).parents[1] / "dags" / "polysync"
DEFINITION: Final = _FOLDER / "step_group.json"
# Its first two steps run at the same time, and the third one needs both.
PARALLEL: Final = _FOLDER / "parallel_steps.json"
PARALLEL_STEPS: Final = ("Train", "Report", "Compare")
GROUP: Final = "steps"
# The first task of the group, and the one that starts the execution.
BEGIN, EXECUTION = OWN_TASKS = ("begin", "execution")
STEPS: Final = ("Prepare", "Train", "Report", "Explain", "Check", "Register", "Alert")
BRANCHES: Final = ("Train", "Report", "Explain")
FAILS_ONCE: Final = {"fail": {"times": 1}}
# The state of the task of a step with a status of AWS's.
STATE_OF: Final = {"Succeeded": "success", "Failed": "failed", "Stopped": "failed"}
# The condition does not take the branch of this step.
ALL_SUCCEEDED: Final = {
    **dict.fromkeys((*OWN_TASKS, *STEPS), "success"),
    "Alert": "skipped",
}
DESCRIBE_JOB: Final = "DescribeProcessingJob"
# On a busy machine, the scheduler handles a deferral seconds later, and fails a task that
# goes on before (``Run.was_taken_for_ended``).
DEFERRAL_SECONDS: Final = 20.0
# Longer than a triggerer takes to be killed.
JOB_SECONDS: Final = 30.0
# The trigger looks every 15 seconds whether the next try has begun.
LEFT_SECONDS: Final = 60.0


class StepGroup:
    """
    The task group of a run.

    :param run: the run.
    :param held: the steps that end only when `release` is called.
    :param definition: the file of the DAG.
    :param steps: the names of its steps.
    """

    def __init__(
        self,
        run: Run,
        *held: str,
        definition: Path = DEFINITION,
        steps: Sequence[str] = STEPS,
    ) -> None:
        self.run = run
        self._held = held
        self._definition = definition
        self._steps = steps

    def start(self, **behaviour: dict[str, Any]) -> None:
        """
        Create the pipeline of the DAG's file, and trigger the DAG.

        :param behaviour: members to add to the emulator's scenario of a step, by step.
        """
        document = json.loads(self._definition.read_text())
        for step in document["Steps"]:
            if step["Name"] in self._held:
                step |= {
                    "Type": "Callback",
                    "SqsQueueUrl": QUEUES_URL + self.run.pipeline,
                }
        self.run.deployment.sagemaker.create_pipeline(
            PipelineName=self.run.pipeline,
            PipelineDefinition=json.dumps(document),
            RoleArn=ROLE,
        )
        self.set_steps(**behaviour)
        self.run.run_ids.append(self.run.trigger_dag_run())

    def set_steps(self, **behaviour: dict[str, Any]) -> None:
        """Set how the steps of the next execution, or of its resume, behave."""
        ends = {
            name: {"duration": self.run.seconds}
            for name in self._steps
            if name not in (*self._held, "Check")
        }
        steps = {
            name: {**ends.get(name, {}), **behaviour.get(name, {})}
            for name in self._steps
        }
        scenario = {"steps": steps, "step_delay": 0}
        self.run.deployment.emulator.control.put_scenario(scenario, self.run.pipeline)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """
        Return the task instances by the name of their step, or by their id in the
        group.
        """
        return {
            task["task_id"].removeprefix(f"{GROUP}."): task for task in self.run.tasks()
        }

    def states(self) -> dict[str, str]:
        """Return the states of the tasks."""
        return {name: task["state"] or "none" for name, task in self.tasks().items()}

    def until_states(self, **expected: str) -> Steps:
        """Wait until tasks have states."""
        yield from self.run.until(
            f"the tasks are {expected}",
            lambda: expected.items() <= self.states().items(),
        )

    def wait_for_end(self, state: str = "success") -> Steps:
        """Wait until the DAG run and all tasks have ended."""
        run = self.run
        yield from run.until(
            f"the DAG run is {state}, and all tasks have ended",
            lambda: run.dag_run_state() == state and run.all_in(*ENDED),
        )
        yield from sleep(INSTALLED.fails_runs_again)

    def release(self) -> Steps:
        """Let the held steps that run succeed."""
        client = self.run.deployment.sagemaker

        def tokens() -> dict[str, str]:
            listed = [step for arn in self._running() for step in self.listed(arn)]
            return {
                step["StepName"]: step["Metadata"]["Callback"]["CallbackToken"]
                for step in listed
                if step["StepName"] in self._held and step["StepStatus"] == "Executing"
            }

        yield from self.run.until(
            "the held steps run", lambda: set(tokens()) == set(self._held)
        )
        for token in tokens().values():
            client.send_pipeline_execution_step_success(CallbackToken=token)

    def _running(self) -> list[str]:
        return [
            execution.arn for execution in self.run.executions() if execution.running
        ]

    def listed(self, arn: str) -> list[dict[str, Any]]:
        """Return AWS's list of the steps of an execution."""
        client = self.run.deployment.sagemaker
        steps = client.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
            "PipelineExecutionSteps"
        ]
        return list(steps)

    def clear(self, *names: str) -> None:
        """Clear tasks, and those that follow, as a user does in the UI."""
        run = self.run
        ids = [f"{GROUP}.{name}" for name in names]
        run.deployment.client.clear_task(
            run.dag_id, run.run_ids[0], *ids, downstream=True
        )

    def mark(self, name: str, state: str) -> None:
        """Set the state of a task, as a user does in the UI."""
        run = self.run
        run.deployment.client.mark_task(
            run.dag_id, run.run_ids[0], f"{GROUP}.{name}", state
        )

    def require_states(self, expected: dict[str, str], *marked: str) -> None:
        """
        Compare the states of the tasks, also with AWS's statuses of the steps of the
        latest execution.

        :param marked: the tasks whose states a person has set, and those that follow
            from them.
        """
        run, states = self.run, self.states()
        differing = {
            name: states.get(name)
            for name in expected
            if states.get(name) != expected[name]
        }
        run.require(
            not differing, f"states of tasks: {differing}; expected: {expected}"
        )
        statuses = {
            step["StepName"]: step["StepStatus"]
            for step in self.listed(run.executions()[-1].arn)
        }
        wrong = {
            name: (status, states.get(name))
            for name, status in statuses.items()
            if name not in marked and STATE_OF.get(status) != states.get(name)
        }
        run.require(not wrong, f"AWS's statuses and the states of the tasks: {wrong}")

    def require_tries(self, *, second: Sequence[str]) -> None:
        """
        Compare the numbers of tries.

        :param second: the tasks that have had two tries; the others, also those that
            could not begin before, had one.
        """
        tries = {
            name: task["try_number"]
            for name, task in self.tasks().items()
            if task["state"] != "skipped"
        }
        expected = {name: 2 if name in second else 1 for name in tries}
        self.run.require(tries == expected, f"tries: {tries}; expected: {expected}")

    def require_resumes(self, *repeated: str) -> None:
        """Require one resume, which has repeated the given steps only."""
        run = self.run
        run.deployment.calls.refresh()
        calls = run.calls(RETRY)
        run.require(len(calls) == 1, f"{len(calls)} resumes, expected 1")
        starts = {
            step["StepName"]: step["StartTime"].timestamp()
            for step in self.listed(run.executions()[0].arn)
        }
        again = {
            name for name, start in starts.items() if calls and start > calls[0]["time"]
        }
        run.require(
            again == set(repeated),
            f"steps after the resume: {again}, expected: {repeated}",
        )
        # AWS has listed each step once.
        run.require(
            len(run.calls(START)) == 1, f"{len(run.calls(START))} starts, expected 1"
        )


# ---- triggerers


def triggerers_killed_while_step_waits(run: Run) -> Steps:
    """Both triggerers are killed while the tasks of steps wait, and start again."""
    group = StepGroup(run, "Train")
    group.start()
    yield from group.until_states(
        Prepare="success", Train="deferred", Report="success", execution="deferred"
    )
    run.deployment.kill_triggerers()
    run.deployment.start_triggerers()
    yield from group.release()
    yield from _end_at_first_try(group)


def triggerers_killed_while_step_ends(run: Run) -> Steps:
    """
    Both triggerers are killed while the task of the first step reads what its job has
    made, and start again.
    """
    group, control = StepGroup(run, "Train"), run.deployment.emulator.control
    fault = control.add_fault("latency", DESCRIBE_JOB, delay=JOB_SECONDS, count=1)
    group.start()

    def is_sent() -> bool:
        return all(
            each["id"] != fault or not each["count"] for each in control.faults()
        )

    yield from run.until("the description of the job is on its way", is_sent)
    run.require(
        group.states()["Prepare"] in ("deferred", "running"),
        f"at the kill: {group.states()}",
    )
    run.deployment.kill_triggerers()
    run.deployment.start_triggerers()
    yield from group.release()
    yield from _end_at_first_try(group)


def triggerer_killed(run: Run) -> Steps:
    """
    The triggerer with the trigger of the execution is killed: the other one takes over
    all triggers.
    """
    group = StepGroup(run, "Train")
    group.start()
    yield from group.until_states(
        Report="success", Explain="success", Train="deferred", execution="deferred"
    )

    def triggerer_of(name: str) -> str | None:
        job = group.tasks()[name].get("triggerer_job") or {}
        return run.deployment.triggerer_of(job.get("id"))

    yield from run.until(
        "a triggerer has the trigger", lambda: triggerer_of(EXECUTION) is not None
    )
    killed = triggerer_of(EXECUTION)
    if killed is None:
        raise UnexpectedStateError("no triggerer runs the trigger of the execution")
    other = SECOND if killed == FIRST else FIRST
    run.deployment.airflow.components[killed].kill()
    yield from run.until(
        f"{other} has the triggers",
        lambda: {triggerer_of(EXECUTION), triggerer_of("Train")} == {other},
    )
    yield from group.release()
    yield from _end_at_first_try(group)


def _end_at_first_try(group: StepGroup) -> Steps:
    yield from group.wait_for_end()
    group.require_states(ALL_SUCCEEDED)
    group.require_tries(second=())


# ---- people around a group


def _run_branches(group: StepGroup) -> Steps:
    """Start, and wait until the tasks of the branches wait for steps that run."""
    # The first step is short.
    group.start(Prepare={"duration": SHORT_STEP})
    yield from group.until_states(
        **dict.fromkeys((*BRANCHES, EXECUTION), "deferred"), Prepare="success"
    )
    arn = group.run.executions()[0].arn
    yield from group.run.until(
        "AWS runs the branches",
        lambda: set(BRANCHES) <= {step["StepName"] for step in group.listed(arn)},
    )


def dag_run_failed(run: Run) -> Steps:
    """The DAG run is marked as failed while the branches run."""
    group = StepGroup(run)
    yield from _run_branches(group)
    run.fail_dag_run()
    yield from group.wait_for_end("failed")
    yield from run.until("the execution has ended", lambda: not run.running_statuses())
    ended = dict.fromkeys((*BRANCHES, EXECUTION), "failed")
    pending = dict.fromkeys(("Check", "Register", "Alert"), "skipped")
    group.require_states({BEGIN: "success", "Prepare": "success", **ended, **pending})


def dag_run_deleted(run: Run) -> Steps:
    """The DAG run is marked as failed while the branches run, and deleted at once."""
    yield from _run_branches(StepGroup(run))
    run.fail_dag_run()
    run.deployment.client.delete_run(run.dag_id, run.run_ids[0])
    yield from run.until("nothing is left in Airflow", lambda: not run.tasks())
    yield from _wait_for_stop(run)


def _wait_for_stop(run: Run) -> Steps:
    yield from run.until(
        "the execution is stopped", lambda: run.running_statuses() != ["Executing"]
    )


def steps_marked(run: Run) -> Steps:
    """
    A person marks the task of one step as failed, and that of another as success: the
    execution goes on.
    """
    group = StepGroup(run, "Train", "Report")
    yield from _run_branches(group)
    group.mark("Train", "failed")
    group.mark("Report", "success")
    yield from group.until_states(
        Check="upstream_failed", Train="failed", Report="success"
    )
    run.require(
        run.running_statuses() == ["Executing"], f"after the marks: {run.state_line()}"
    )
    yield from group.release()
    yield from group.wait_for_end()
    following = ("Check", "Register", "Alert")
    group.require_states(
        {
            **ALL_SUCCEEDED,
            "Train": "failed",
            **dict.fromkeys(following, "upstream_failed"),
        },
        "Train",
        *following,
    )


def cleared_and_dag_run_failed(run: Run) -> Steps:
    """
    Some steps are cleared while the execution runs, and the DAG run is marked as failed
    before the next try.

    That cannot begin, because the DAG is paused.
    """
    group, client = StepGroup(run), run.deployment.client
    yield from _run_branches(group)
    yield from run.meet("the DAG is paused", partial(client.pause, run.dag_id))
    group.clear("Train")
    yield from group.until_states(execution="none")
    # The trigger has seen that, and leaves the execution to the next try.
    yield from sleep(5)
    run.require(
        run.running_statuses() == ["Executing"], f"after the clear: {run.state_line()}"
    )
    run.fail_dag_run()
    start = time.monotonic()
    yield from _wait_for_stop(run)
    seconds = time.monotonic() - start
    run.require(seconds < LEFT_SECONDS, f"stopped after {seconds:.0f} s")
    run.remarks.append(f"stopped {seconds:.0f} s after the end of the DAG run")
    yield from run.meet("the DAG is unpaused", partial(client.unpause, run.dag_id))
    yield from run.until("the execution has ended", lambda: not run.running_statuses())
    group.require_states(
        {
            BEGIN: "success",
            "Prepare": "success",
            "Train": "skipped",
            EXECUTION: "skipped",
        },
        "Train",
    )


# ---- clears


def failed_step_cleared_while_branch_runs(run: Run) -> Steps:
    """
    A failed step is cleared with what follows, while another branch runs to its end:
    one resume.
    """
    group = StepGroup(run, "Report")
    group.start(Train=FAILS_ONCE)
    # Airflow 3.2 may set the tasks below to upstream_failed also after a clear that
    # comes before that.
    below = dict.fromkeys(("Check", "Register", "Alert"), "upstream_failed")
    yield from group.until_states(
        Train="failed", Explain="success", Report="deferred", **below
    )
    yield from _clear_while_others_run(group, "Train")
    yield from group.release()
    yield from group.wait_for_end()
    group.require_resumes("Train", "Check", "Register")
    group.require_states(ALL_SUCCEEDED)
    group.require_tries(second=("Train", EXECUTION))


def _clear_while_others_run(group: StepGroup, step: str) -> Steps:
    """Clear a step, and wait until the next try of the execution's task waits."""
    run = group.run
    group.clear(step)
    start = time.monotonic()
    yield from run.until(
        "the next try of the execution's task waits",
        lambda: (
            (task := group.tasks()[EXECUTION])["try_number"] == 2
            and task["state"] == "deferred"
        ),
    )
    seconds = time.monotonic() - start
    run.remarks.append(f"the next try waits {seconds:.0f} s after the clear")
    run.require(
        run.running_statuses() == ["Executing"], f"after the clear: {run.state_line()}"
    )


def one_of_two_cleared(train: dict[str, Any] | None) -> Scenario:
    """
    Two steps run at the same time, and one is cleared with what follows: the execution
    goes on, although no step's task has ended that was not cleared.

    :param train: how that step behaves; None if it runs at the clear.
    """

    def scenario(run: Run) -> Steps:
        held = ["Report"]
        # The scheduler may overwrite the clear of a task that it has not failed yet.
        states = {"Train": "failed", "Compare": "upstream_failed"}
        if train is None:
            held.append("Train")
            states = {"Train": "deferred"}
        group = StepGroup(run, *held, definition=PARALLEL, steps=PARALLEL_STEPS)
        group.start(Train=train or {})
        yield from group.until_states(**states, Report="deferred", execution="deferred")
        yield from _clear_while_others_run(group, "Train")
        yield from group.release()
        if train:
            # Its task does not wait for the end of the execution.
            yield from group.until_states(Report="success")
        yield from group.wait_for_end()
        if train:
            group.require_resumes("Train", "Compare")
        group.require_states(dict.fromkeys((*OWN_TASKS, *PARALLEL_STEPS), "success"))
        group.require_tries(second=("Train", EXECUTION))

    return scenario


def failed_steps_cleared(*failing: str) -> Scenario:
    """
    Steps that have failed are cleared with what follows, all at once, when the DAG run
    has failed: one resume.

    :param failing: the steps.
    """

    def scenario(run: Run) -> Steps:
        group = StepGroup(run)
        group.start(**dict.fromkeys(failing, FAILS_ONCE))
        yield from group.wait_for_end("failed")
        group.require_states(dict.fromkeys(failing, "failed"))
        run.seconds = DEFERRAL_SECONDS
        group.set_steps()
        group.clear(*failing)
        yield from group.wait_for_end()
        group.require_resumes(*failing, "Check", "Register")
        group.require_states(ALL_SUCCEEDED)
        group.require_tries(second=(*failing, EXECUTION))

    return scenario


def succeeded_step_cleared(run: Run) -> Steps:
    """
    A step is cleared after the success of all: a selective execution repeats it alone.
    """
    group = StepGroup(run)
    group.start()
    yield from group.wait_for_end()
    run.seconds = DEFERRAL_SECONDS
    group.set_steps()
    group.clear("Report")
    yield from group.wait_for_end()
    run.deployment.calls.refresh()
    source = run.executions()[0].arn
    selections = [
        call["request"].get("SelectiveExecutionConfig") for call in run.calls(START)
    ]
    expected = {
        "SourcePipelineExecutionArn": source,
        "SelectedSteps": [{"StepName": "Report"}],
    }
    run.require(selections == [None, expected], f"selections: {selections}")
    group.require_states(ALL_SUCCEEDED)
    group.require_tries(second=("Report", EXECUTION))


def all_cleared(run: Run) -> Steps:
    """
    The first task is cleared with all that follow while the branches run: a new
    execution after the stop.
    """
    group = StepGroup(run)
    yield from _run_branches(group)
    run.seconds = SHORT_STEP
    group.set_steps()
    group.clear(BEGIN)
    yield from run.until("a second execution exists", lambda: len(run.executions()) > 1)
    yield from group.wait_for_end()
    group.require_states(ALL_SUCCEEDED)
    group.require_tries(second=(*OWN_TASKS, "Prepare", *BRANCHES))


# ---- workers


def killed_at_start(run: Run) -> Steps:
    """
    The process of the execution's task is killed at the kill point of the DAG file. The
    retry goes on.
    """
    group = StepGroup(run)
    group.start()
    yield from wait_for_kill(run)
    yield from group.wait_for_end()
    tokens = {call["request"].get("ClientRequestToken") for call in run.calls(START)}
    run.require(len(tokens) == 1, f"starts with {len(tokens)} tokens, expected 1")
    group.require_states(ALL_SUCCEEDED)
    group.require_tries(second=(EXECUTION,))

"""Tests of the simulated execution over time, without the API."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.definition import parse
from sagemaker_emulator.engine.execution import StateError
from tests.builders import FOREVER, chain, condition, execution, fail, timeline


def test_step_starts_when_its_dependencies_have_succeeded() -> None:
    """
    A step starts two seconds after its last dependency has succeeded, and independent
    steps start together.
    """
    engine = execution(
        definition(step("A"), step("B", "Training"), step("C", "Model", "A", "B"))
    )
    engine.advance(FOREVER)
    assert timeline(engine) == {
        "A": (2, 242, "Succeeded"),
        "B": (2, 602, "Succeeded"),
        "C": (604, 607, "Succeeded"),
    }
    assert (engine.status, engine.last_modified) == ("Succeeded", 607)


@pytest.mark.parametrize(
    "use",
    [
        {"Get": "Steps.A.ModelArtifacts.S3ModelArtifacts"},
        {"Std:Join": {"On": "/", "Values": ["x", {"Get": "Steps.A.TrainingJobName"}]}},
        {
            "deep": [
                {
                    "Std:JsonGet": {
                        "PropertyFile": {"Get": "Steps.A.PropertyFiles.F"},
                        "Path": "x",
                    }
                }
            ]
        },
    ],
)
def test_reference_is_a_dependency(use: Any) -> None:
    """
    A step that uses a property of another step in its arguments waits for that step.
    """
    engine = execution(
        definition(step("A"), {"Name": "B", "Type": "Model", "Arguments": {"x": use}})
    )
    engine.advance(FOREVER)
    assert timeline(engine)["B"][0] == 244


def test_condition_step_does_not_depend_on_references_in_its_branches() -> None:
    """
    A condition step waits for the steps that its conditions use, not for those that its
    branches use.
    """
    compare = {"Type": "Equals", "LeftValue": {"Get": "Steps.A.X"}, "RightValue": 1}
    nested = {"Name": "N", "Type": "Model", "Arguments": {"x": {"Get": "Steps.B.Y"}}}
    engine = execution(
        definition(
            step("A"), step("B", "Training"), condition("C", [compare], [nested], [])
        )
    )
    engine.advance(FOREVER)
    assert timeline(engine)["C"][0] == 244
    assert timeline(engine)["N"][0] == 604


def test_job_is_starting_before_executing() -> None:
    """The status of a job is Starting before it is Executing."""
    engine = execution(chain("A"))
    engine.advance(31.9)
    assert engine.runs["A"].status == "Starting"
    engine.advance(32)
    assert engine.runs["A"].status == "Executing"


def test_parallelism_is_limited() -> None:
    """
    At most max_parallel steps run at the same time, in the order of the definition.
    """
    engine = execution(definition(*(step(name) for name in "ABCDE")), limit=2)
    engine.advance(FOREVER)
    assert [run.started_at for run in engine.runs.values()] == [2, 2, 242, 242, 482]


def test_parallelism_can_be_increased_while_running() -> None:
    """When the limit is increased, waiting steps start at once."""
    engine = execution(definition(step("A"), step("B")), limit=1)
    engine.set_max_parallel(100, 2)
    assert engine.runs["B"].started_at == 100


@pytest.mark.parametrize(
    ("score", "selected", "skipped"), [(0.9, "Good", "Bad"), (0.1, "Bad", "Good")]
)
def test_only_the_selected_branch_runs(
    score: float, selected: str, skipped: str
) -> None:
    """The steps of the branch that is not selected never appear."""
    compare = {
        "Type": "GreaterThan",
        "LeftValue": {"Get": "Parameters.Score"},
        "RightValue": 0.5,
    }
    parameter = {"Name": "Score", "Type": "Float"}
    branches = condition("Check", [compare], [step("Good")], [step("Bad")])
    engine = execution(definition(branches, parameters=(parameter,)), Score=score)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert selected in engine.runs
    assert skipped not in engine.runs


def test_nested_condition_steps() -> None:
    """A condition step in a branch selects one of its own branches."""
    yes = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    no = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
    inner = condition("Inner", [no], [step("A")], [step("B")])
    engine = execution(definition(condition("Outer", [yes], [inner], [step("C")])))
    engine.advance(FOREVER)
    assert list(engine.runs) == ["Outer", "Inner", "B"]


def test_step_that_depends_on_an_unselected_branch_never_runs() -> None:
    """A step does not run if it depends on a step in a branch that is not selected."""
    yes = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    engine = execution(
        definition(
            condition("C", [yes], [], [step("No")]), step("After", "Model", "No")
        )
    )
    engine.advance(FOREVER)
    assert list(engine.runs) == ["C"]
    assert engine.status == "Succeeded"


@pytest.mark.parametrize(("auc", "outcome"), [(0.9, True), (0.75, False)])
def test_property_file_content_comes_from_the_scenario(
    shared_definitions: Path, auc: float, outcome: bool
) -> None:
    """A condition on a property file uses the content that the scenario sets."""
    text = (shared_definitions / "churn_tuning.json").read_text()
    files = {"Eval": {"classification_metrics": {"auc": {"value": auc}}}}
    scenario = {"steps": {"ChurnEvaluate": {"property_files": files}}}
    engine = execution(
        text, scenario, AucThreshold=0.75, InputData="s3://x", MaxJobs=4, DryRun=False
    )
    engine.advance(FOREVER)
    assert engine.runs["AucCheck"].outcome is outcome
    assert ("ChurnRegister" in engine.runs, "ChurnReport" in engine.runs) == (
        outcome,
        not outcome,
    )


def test_missing_json_path_fails_the_condition_step() -> None:
    """
    A condition step fails if its JSON path does not exist in the content of the
    property file.
    """
    get = {
        "Std:JsonGet": {
            "PropertyFile": {"Get": "Steps.A.PropertyFiles.F"},
            "Path": "a.b",
        }
    }
    compare = {"Type": "Equals", "LeftValue": get, "RightValue": 1}
    scenario: dict[str, Any] = {"steps": {"A": {"property_files": {"F": {"a": {}}}}}}
    engine = execution(
        definition(step("A"), condition("C", [compare], [], [])), scenario
    )
    engine.advance(FOREVER)
    assert (
        engine.runs["C"].failure_reason
        == "Path 'a.b' does not exist in property file 'F'"
    )


def test_condition_on_a_missing_file_fails(shared_definitions: Path) -> None:
    """Neither branch runs, and the reason names the file."""
    text = (shared_definitions / "abalone.json").read_text()
    engine = execution(text, MseThreshold=6.0)
    engine.advance(FOREVER)
    run = engine.runs["AbaloneMSECond"]
    assert (engine.status, run.status, run.outcome) == ("Failed", "Failed", None)
    assert "Steps.AbaloneEval.PropertyFiles.EvaluationReport" in str(run.failure_reason)
    assert "AbaloneTransform" not in engine.runs


def test_fail_step_uses_its_message_as_failure_reason() -> None:
    """
    The evaluated message of a fail step is its failure reason; the execution has the
    general reason.
    """
    message = {
        "Std:Join": {
            "On": " ",
            "Values": ["Score is", {"Get": "Parameters.P"}, {"Get": "Steps.C.Outcome"}],
        }
    }
    no = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
    text = definition(
        condition("C", [no], [], []),
        fail("F", message),
        parameters=({"Name": "P", "Type": "Float"},),
    )
    engine = execution(text, P=0.5)
    engine.advance(FOREVER)
    assert engine.runs["F"].failure_reason == "Score is 0.5 false"
    assert (engine.status, engine.failure_reason) == (
        "Failed",
        "Step failure: One or multiple steps failed.",
    )


def test_running_steps_finish_after_a_failure() -> None:
    """
    After a step fails, running steps finish, no other step starts, and then the
    execution fails.
    """
    scenario = {"steps": {"A": {"fail": {"reason": "No data"}}}}
    engine = execution(
        definition(step("A"), step("B", "Training"), step("C", "Model", "B")), scenario
    )
    engine.advance(601)
    assert engine.status == "Executing"
    engine.advance(FOREVER)
    assert timeline(engine) == {"A": (2, 242, "Failed"), "B": (2, 602, "Succeeded")}
    assert (engine.status, engine.last_modified) == ("Failed", 602)
    assert engine.runs["A"].failure_reason == "No data"


def test_completed_with_failures_runs_independent_steps() -> None:
    """
    With CompletedWithFailures, only the steps that depend on the failed step do not
    run.
    """
    scenario: dict[str, Any] = {
        "end_as": "CompletedWithFailures",
        "steps": {"A": {"fail": {}}},
    }
    text = definition(
        step("A"),
        step("B", "Training"),
        step("C", "Model", "B"),
        step("D", "Model", "A"),
    )
    engine = execution(text, scenario)
    engine.advance(FOREVER)
    assert list(engine.runs) == ["A", "B", "C"]
    assert engine.status == "CompletedWithFailures"


def test_stop_interrupts_jobs_after_some_seconds() -> None:
    """
    The execution and its running jobs are Stopping for some seconds, and no other step
    starts.
    """
    engine = execution(chain("A", "B"))
    engine.stop(100)
    assert (engine.status, engine.runs["A"].status) == ("Stopping", "Stopping")
    engine.advance(119.9)
    assert engine.status == "Stopping"
    engine.advance(120)
    assert (engine.status, timeline(engine)) == ("Stopped", {"A": (2, 120, "Stopped")})


def test_job_that_is_stopped_while_starting_stays_stopping() -> None:
    """A job in the status Stopping does not become Executing."""
    engine = execution(chain("A"))
    engine.stop(20)
    engine.advance(33)
    assert engine.runs["A"].status == "Stopping"


def test_stop_before_the_first_step() -> None:
    """An execution can be stopped before its first step has started."""
    engine = execution(chain("A"))
    engine.stop(1)
    engine.advance(FOREVER)
    assert (engine.status, engine.runs, engine.last_modified) == ("Stopped", {}, 21)


@pytest.mark.parametrize(
    ("scenario", "end"), [({}, "Succeeded"), ({"steps": {"A": {"fail": {}}}}, "Failed")]
)
def test_execution_is_not_stopped_if_its_last_step_ends_first(
    scenario: dict[str, Any], end: str
) -> None:
    """
    If the last step ends before the stop interrupts it, the execution ends as Succeeded
    or Failed.
    """
    engine = execution(chain("A"), scenario)
    engine.stop(230)
    engine.advance(FOREVER)
    assert (engine.status, engine.runs["A"].ended_at) == (end, 242)


def test_stop_waits_for_a_lambda_step() -> None:
    """The execution is Stopping until its Lambda step has ended, and then Stopped."""
    engine = execution(
        definition(step("L", "Lambda")), {"steps": {"L": {"duration": 300}}}
    )
    engine.stop(10)
    engine.advance(301)
    assert (engine.status, engine.runs["L"].status) == ("Stopping", "Executing")
    engine.advance(302)
    assert (engine.status, engine.runs["L"].status) == ("Stopped", "Succeeded")


def test_execution_fails_if_a_lambda_step_times_out_during_a_stop() -> None:
    """
    If a Lambda step reaches its timeout of ten minutes during a stop, the execution is
    Failed.
    """
    engine = execution(
        definition(step("L", "Lambda")), {"steps": {"L": {"duration": None}}}
    )
    engine.stop(10)
    engine.advance(FOREVER)
    assert (engine.status, engine.last_modified) == ("Failed", 602)


@pytest.mark.parametrize("outputs", [{"ok": "yes"}, None])
def test_stop_waits_for_a_callback_step(outputs: dict[str, str] | None) -> None:
    """
    The execution is Stopping until its callback step receives a result, either success
    or failure.
    """
    engine = execution(definition(step("C", "Callback"), step("B", "Model", "C")))
    engine.stop(10)
    engine.advance(3 * 24 * 3600)
    assert engine.status == "Stopping"
    token = engine.runs["C"].callback_token
    assert token is not None
    if outputs is None:
        engine.fail_callback(3 * 24 * 3600, token, None)
    else:
        engine.succeed_callback(3 * 24 * 3600, token, outputs)
    assert engine.status == "Stopped"
    assert "B" not in engine.runs


def test_callback_step_without_result_fails_after_seven_days() -> None:
    """A callback step that receives no result fails after seven days."""
    engine = execution(definition(step("C", "Callback")))
    engine.advance(FOREVER)
    assert (engine.status, engine.runs["C"].ended_at) == ("Failed", 2 + 7 * 24 * 3600)


def test_callback_outputs_are_available_to_later_steps() -> None:
    """A later step can use the output parameters of a callback step."""
    message = {"Get": "Steps.C.OutputParameters['why']"}
    engine = execution(definition(step("C", "Callback"), fail("F", message)))
    engine.advance(10)
    token = str(engine.runs["C"].callback_token)
    engine.succeed_callback(10, token, {"why": "not approved"})
    engine.advance(20)
    assert engine.runs["F"].failure_reason == "not approved"


def test_step_of_infinite_duration_ends_only_by_a_stop() -> None:
    """A step of infinite duration runs until it is stopped."""
    engine = execution(chain("A"), {"steps": {"A": {"duration": None}}})
    engine.advance(FOREVER)
    assert engine.status == "Executing"
    engine.stop(FOREVER)
    engine.advance(FOREVER + 20)
    assert engine.status == "Stopped"


def test_execution_ends_after_672_hours() -> None:
    """
    AWS documents the time. Steps that run are interrupted; a retry has as much time
    again.
    """
    limit = 672 * 3600.0
    endless = {"steps": {"A": {"duration": None}}}
    engine = execution(chain("A", "B"), endless)
    engine.advance(limit - 1)
    assert engine.status == "Executing"

    engine.advance(limit)

    assert (engine.status, engine.last_modified) == ("Failed", limit)
    assert engine.failure_reason == (
        "The pipeline execution has reached its maximum time of 672 hours."
    )
    assert timeline(engine) == {"A": (2.0, limit, "Stopped")}
    engine.retry(limit + 10, engine.scenario, inf)
    engine.advance(2 * limit)
    assert engine.status == "Executing"
    engine.stop(2 * limit)
    engine.advance(2 * limit + 10)
    assert engine.status == "Stopped"


def test_only_an_executing_execution_can_be_stopped() -> None:
    """
    A stop is rejected while another stop is in progress, and after the execution has
    ended.
    """
    engine = execution(chain("A"))
    engine.stop(10)
    with pytest.raises(
        StateError,
        match=r"'Stopping'.*Only pipelines with 'Executing' status can be stopped",
    ):
        engine.stop(11)
    with pytest.raises(
        StateError,
        match=r"'Stopped'.*Only pipelines with 'Executing' status can be stopped",
    ):
        engine.stop(FOREVER)


def test_retry_runs_only_steps_that_have_not_succeeded() -> None:
    """A retry keeps succeeded steps, and increments the attempt of the other steps."""
    scenario = {"steps": {"B": {"fail": {"times": 2}}}}
    engine = execution(chain("A", "B", "C"), scenario)
    for retried_at in (1000, 2000):
        engine.advance(retried_at)
        assert engine.status == "Failed"
        engine.retry(retried_at, engine.scenario, inf)
    assert (engine.status, engine.failure_reason) == ("Executing", None)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert [run.attempt for run in engine.runs.values()] == [1, 3, 1]
    assert [run.started_at for run in engine.runs.values()] == [2, 2002, 2244]


def test_retry_has_a_start_delay() -> None:
    """
    No step starts in the first seconds of a retry, even if the parallelism changes.
    """
    engine = execution(chain("A"))
    engine.stop(100)
    engine.advance(200)
    engine.retry(200, engine.scenario, inf)
    engine.set_max_parallel(201, 5)
    assert engine.runs == {}
    engine.advance(202)
    assert list(engine.runs) == ["A"]


@pytest.mark.parametrize("duration", [60, 30])
def test_callback_step_with_a_duration_ends_by_itself(duration: float) -> None:
    """
    A callback step whose scenario sets a duration ends without a result from outside.
    """
    engine = execution(
        definition(step("C", "Callback")), {"steps": {"C": {"duration": duration}}}
    )
    engine.advance(FOREVER)
    assert (engine.status, engine.last_modified) == ("Succeeded", 2 + duration)


@pytest.mark.parametrize("now", [10, 100, FOREVER])
def test_only_an_execution_that_ended_without_success_can_be_retried(
    now: float,
) -> None:
    """
    A retry is rejected while the execution is running or stopping, and after it has
    succeeded.
    """
    engine = execution(chain("A"))
    if now == 100:
        engine.stop(100)
    with pytest.raises(StateError, match="can be retried"):
        engine.retry(now, engine.scenario, inf)


def test_execution_that_has_ended_with_a_fail_step_cannot_be_retried() -> None:
    """AWS documents this limitation of Fail steps."""
    engine = execution(definition(fail("F", "no")))
    engine.advance(FOREVER)
    with pytest.raises(StateError, match="ended with a Fail step cannot be retried"):
        engine.retry(FOREVER, engine.scenario, inf)


@pytest.mark.parametrize(
    ("function", "status"),
    [("polysync-no-such-function", "Failed"), ("score", "Succeeded")],
)
def test_lambda_step_without_a_function_fails(function: str, status: str) -> None:
    """All functions exist but those with a certain name."""
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{function}"
    engine = execution(definition(step("L", "Lambda", FunctionArn=arn)))
    engine.advance(FOREVER)
    assert engine.runs["L"].status == status


def test_stopped_execution_can_be_retried() -> None:
    """A retry of a stopped execution runs the interrupted step again."""
    engine = execution(chain("A", "B"))
    engine.stop(100)
    engine.advance(200)
    engine.retry(200, engine.scenario, inf)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert timeline(engine)["A"] == (202, 442, "Succeeded")


def test_scenario_can_replace_the_shown_status() -> None:
    """A status window changes the status that is shown, but not the execution."""
    engine = execution(
        chain("A"), {"statuses": [{"status": "Pausing", "after": 10, "until": 60}]}
    )
    assert [engine.shown_status(t) for t in (9.9, 10, 59.9, 60)] == [
        "Executing", "Pausing", "Pausing", "Executing",
    ]  # fmt: skip
    assert engine.status == "Executing"


def test_speed_of_a_scenario() -> None:
    """What has no duration is faster: the start, the pauses, the jobs, and the stop."""
    scenario = {"speed": 10, "steps": {"B": {"duration": 30}}}
    engine = execution(chain("A", "B", "C"), scenario)
    engine.advance(55)
    assert [engine.runs[name].attempts[0].executing_at for name in "AB"] == [3.2, 27.4]
    engine.stop(55)
    engine.advance(FOREVER)
    assert timeline(engine) == {
        "A": (0.2, 24.2, "Succeeded"),
        "B": (24.4, 54.4, "Succeeded"),
        "C": (54.6, 57, "Stopped"),
    }


@pytest.mark.parametrize(
    "name", ["abalone", "churn_tuning", "fanout", "scoring_required_params"]
)
def test_example_pipelines_succeed(shared_definitions: Path, name: str) -> None:
    """
    By default, each example definition without a callback step succeeds, with its
    property files.
    """
    text = (shared_definitions / f"{name}.json").read_text()
    files = shared_definitions / "property_files" / f"{name}.json"
    contents = {}
    if files.exists():
        contents = json.loads(files.read_text())
    scenario = {
        "steps": {step: {"property_files": contents[step]} for step in contents}
    }
    values = {key: value.default for key, value in parse(text).parameters.items()}
    engine = execution(text, scenario, **values)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"

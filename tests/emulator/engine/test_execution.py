"""How an execution goes over time, asked of the engine directly."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.emulator.engine.definition import parse
from polysync_airflow.emulator.engine.execution import StateError
from tests.emulator.builders import FOREVER, chain, condition, definition, execution, fail, step, timeline


def test_steps_wait_for_what_they_depend_on() -> None:
    """A step starts the moment its last dependency succeeds, and independent steps start together."""
    engine = execution(definition(step("A"), step("B", "Training"), step("C", "Model", "A", "B")))
    engine.advance(FOREVER)
    assert timeline(engine) == {
        "A": (2, 242, "Succeeded"),
        "B": (2, 602, "Succeeded"),
        "C": (602, 605, "Succeeded"),
    }
    assert (engine.status, engine.last_modified) == ("Succeeded", 605)


@pytest.mark.parametrize(
    "use",
    [
        {"Get": "Steps.A.ModelArtifacts.S3ModelArtifacts"},
        {"Std:Join": {"On": "/", "Values": ["x", {"Get": "Steps.A.TrainingJobName"}]}},
        {"deep": [{"Std:JsonGet": {"PropertyFile": {"Get": "Steps.A.PropertyFiles.F"}, "Path": "x"}}]},
    ],
)
def test_a_reference_is_a_dependency(use: Any) -> None:
    """Using a step's property anywhere in the arguments waits for that step."""
    engine = execution(definition(step("A"), {"Name": "B", "Type": "Model", "Arguments": {"x": use}}))
    engine.advance(FOREVER)
    assert timeline(engine)["B"][0] == 242


def test_a_reference_in_a_condition_is_a_dependency_of_the_condition_only() -> None:
    """A condition waits for the steps its conditions use, not for those its branches use."""
    compare = {"Type": "Equals", "LeftValue": {"Get": "Steps.A.X"}, "RightValue": 1}
    nested = {"Name": "N", "Type": "Model", "Arguments": {"x": {"Get": "Steps.B.Y"}}}
    engine = execution(definition(step("A"), step("B", "Training"), condition("C", [compare], [nested], [])))
    engine.advance(FOREVER)
    assert timeline(engine)["C"][0] == 242
    assert timeline(engine)["N"][0] == 602


def test_steps_are_shown_as_starting_first() -> None:
    """A job is Starting before it is Executing."""
    engine = execution(chain("A"))
    engine.advance(31.9)
    assert engine.runs["A"].status == "Starting"
    engine.advance(32)
    assert engine.runs["A"].status == "Executing"


def test_parallelism_is_limited() -> None:
    """No more than max_parallel steps run at once, and earlier ones go first."""
    engine = execution(definition(*(step(name) for name in "ABCDE")), limit=2)
    engine.advance(FOREVER)
    assert [run.started_at for run in engine.runs.values()] == [2, 2, 242, 242, 482]


def test_parallelism_can_be_raised_while_running() -> None:
    """A higher limit lets waiting steps start at once."""
    engine = execution(definition(step("A"), step("B")), limit=1)
    engine.limit(100, 2)
    assert engine.runs["B"].started_at == 100


@pytest.mark.parametrize(("score", "taken", "left"), [(0.9, "Good", "Bad"), (0.1, "Bad", "Good")])
def test_only_the_branch_taken_runs(score: float, taken: str, left: str) -> None:
    """The steps of the other branch never appear."""
    compare = {"Type": "GreaterThan", "LeftValue": {"Get": "Parameters.Score"}, "RightValue": 0.5}
    parameter = {"Name": "Score", "Type": "Float"}
    branches = condition("Check", [compare], [step("Good")], [step("Bad")])
    engine = execution(definition(branches, parameters=(parameter,)), Score=score)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert taken in engine.runs
    assert left not in engine.runs


def test_conditions_nest() -> None:
    """A condition step in a branch decides about its own branches."""
    yes = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    no = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
    inner = condition("Inner", [no], [step("A")], [step("B")])
    engine = execution(definition(condition("Outer", [yes], [inner], [step("C")])))
    engine.advance(FOREVER)
    assert list(engine.runs) == ["Outer", "Inner", "B"]


def test_a_step_that_waits_for_an_untaken_branch_never_runs() -> None:
    """Depending on a step that is not reached means not being reached."""
    yes = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    engine = execution(definition(condition("C", [yes], [], [step("No")]), step("After", "Model", "No")))
    engine.advance(FOREVER)
    assert list(engine.runs) == ["C"]
    assert engine.status == "Succeeded"


@pytest.mark.parametrize(("auc", "outcome"), [(0.9, True), (0.75, False)])
def test_property_files_come_from_the_scenario(shared_definitions: Path, auc: float, outcome: bool) -> None:
    """A condition on a property file reads the contents that the scenario gives."""
    text = (shared_definitions / "churn_tuning.json").read_text()
    files = {"Eval": {"classification_metrics": {"auc": {"value": auc}}}}
    scenario = {"steps": {"ChurnEvaluate": {"property_files": files}}}
    engine = execution(text, scenario, AucThreshold=0.75, InputData="s3://x", MaxJobs=4, DryRun=False)
    engine.advance(FOREVER)
    assert engine.runs["AucCheck"].outcome is outcome
    assert engine.status == ("Succeeded" if outcome else "Failed")


def test_a_missing_path_fails_the_condition() -> None:
    """A JSON path that is not in the given contents fails the step that uses it."""
    get = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.A.PropertyFiles.F"}, "Path": "a.b"}}
    compare = {"Type": "Equals", "LeftValue": get, "RightValue": 1}
    scenario: dict[str, Any] = {"steps": {"A": {"property_files": {"F": {"a": {}}}}}}
    engine = execution(definition(step("A"), condition("C", [compare], [], [])), scenario)
    engine.advance(FOREVER)
    assert engine.runs["C"].failure_reason == "Path 'a.b' does not exist in property file 'F'"


def test_without_contents_the_if_branch_is_taken(shared_definitions: Path) -> None:
    """A condition on a property file nobody has written is true."""
    text = (shared_definitions / "abalone.json").read_text()
    engine = execution(text, MseThreshold=6.0)
    engine.advance(FOREVER)
    assert engine.runs["AbaloneMSECond"].outcome is True
    assert "AbaloneTransform" in engine.runs


def test_a_fail_step_gives_its_message_as_reason() -> None:
    """A fail step's evaluated message is its failure reason; the execution's is the general one."""
    message = {
        "Std:Join": {"On": " ", "Values": ["Score is", {"Get": "Parameters.P"}, {"Get": "Steps.C.Outcome"}]}
    }
    no = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
    text = definition(
        condition("C", [no], [], []), fail("F", message), parameters=({"Name": "P", "Type": "Float"},)
    )
    engine = execution(text, P=0.5)
    engine.advance(FOREVER)
    assert engine.runs["F"].failure_reason == "Score is 0.5 false"
    assert (engine.status, engine.failure_reason) == ("Failed", "Step failure: One or multiple steps failed.")


def test_after_a_failure_running_steps_finish_and_no_other_starts() -> None:
    """One failed step lets its siblings finish, then the execution fails."""
    scenario = {"steps": {"A": {"fail": {"reason": "No data"}}}}
    engine = execution(definition(step("A"), step("B", "Training"), step("C", "Model", "B")), scenario)
    engine.advance(601)
    assert engine.status == "Executing"
    engine.advance(FOREVER)
    assert timeline(engine) == {"A": (2, 242, "Failed"), "B": (2, 602, "Succeeded")}
    assert (engine.status, engine.last_modified) == ("Failed", 602)
    assert engine.runs["A"].failure_reason == "No data"


def test_completed_with_failures_runs_what_does_not_depend_on_the_failure() -> None:
    """With that end, a failed step only keeps those from running that depend on it."""
    scenario: dict[str, Any] = {"end_as": "CompletedWithFailures", "steps": {"A": {"fail": {}}}}
    text = definition(step("A"), step("B", "Training"), step("C", "Model", "B"), step("D", "Model", "A"))
    engine = execution(text, scenario)
    engine.advance(FOREVER)
    assert list(engine.runs) == ["A", "B", "C"]
    assert engine.status == "CompletedWithFailures"


def test_a_stop_interrupts_jobs_after_some_seconds() -> None:
    """A stopped execution is Stopping for a while, as are its running jobs, and starts nothing more."""
    engine = execution(chain("A", "B"))
    engine.stop(100)
    assert (engine.status, engine.runs["A"].status) == ("Stopping", "Stopping")
    engine.advance(119.9)
    assert engine.status == "Stopping"
    engine.advance(120)
    assert (engine.status, timeline(engine)) == ("Stopped", {"A": (2, 120, "Stopped")})


def test_a_job_that_is_stopped_while_it_starts_stays_stopping() -> None:
    """A Stopping step does not become Executing."""
    engine = execution(chain("A"))
    engine.stop(20)
    engine.advance(33)
    assert engine.runs["A"].status == "Stopping"


def test_a_stop_before_the_first_step_stops() -> None:
    """An execution can be stopped before anything has started."""
    engine = execution(chain("A"))
    engine.stop(1)
    engine.advance(FOREVER)
    assert (engine.status, engine.runs, engine.last_modified) == ("Stopped", {}, 21)


@pytest.mark.parametrize(("scenario", "end"), [({}, "Succeeded"), ({"steps": {"A": {"fail": {}}}}, "Failed")])
def test_a_step_that_ends_first_ends_the_execution_its_own_way(scenario: dict[str, Any], end: str) -> None:
    """If the last step ends by itself before the stop reaches it, the execution is not Stopped."""
    engine = execution(chain("A"), scenario)
    engine.stop(230)
    engine.advance(FOREVER)
    assert (engine.status, engine.runs["A"].ended_at) == (end, 242)


def test_a_stop_waits_for_a_lambda_step() -> None:
    """A Lambda step runs to its end while the execution is Stopping, and then it is Stopped."""
    engine = execution(definition(step("L", "Lambda")), {"steps": {"L": {"duration": 300}}})
    engine.stop(10)
    engine.advance(301)
    assert (engine.status, engine.runs["L"].status) == ("Stopping", "Executing")
    engine.advance(302)
    assert (engine.status, engine.runs["L"].status) == ("Stopped", "Succeeded")


def test_a_lambda_step_that_times_out_fails_the_stop() -> None:
    """If the Lambda function exceeds its ten minutes, the stopped execution is Failed."""
    engine = execution(definition(step("L", "Lambda")), {"steps": {"L": {"duration": None}}})
    engine.stop(10)
    engine.advance(FOREVER)
    assert (engine.status, engine.last_modified) == ("Failed", 602)


@pytest.mark.parametrize("outputs", [{"ok": "yes"}, None])
def test_a_stop_waits_for_a_callback(outputs: dict[str, str] | None) -> None:
    """Only the answer to a running callback step, whichever it is, lets the execution stop."""
    engine = execution(definition(step("C", "Callback"), step("B", "Model", "C")))
    engine.stop(10)
    engine.advance(3 * 24 * 3600)
    assert engine.status == "Stopping"
    token = engine.runs["C"].callback_token
    assert token is not None
    engine.answer(3 * 24 * 3600, token, outputs, None)
    assert engine.status == "Stopped"
    assert "B" not in engine.runs


def test_a_callback_nobody_answers_fails_after_seven_days() -> None:
    """A callback step ends by itself after a week."""
    engine = execution(definition(step("C", "Callback")))
    engine.advance(FOREVER)
    assert (engine.status, engine.runs["C"].ended_at) == ("Failed", 2 + 7 * 24 * 3600)


def test_a_callback_hands_its_outputs_on() -> None:
    """The output parameters of a callback answer can be used by a later step."""
    message = {"Get": "Steps.C.OutputParameters['why']"}
    engine = execution(definition(step("C", "Callback"), fail("F", message)))
    engine.advance(10)
    engine.answer(10, str(engine.runs["C"].callback_token), {"why": "not approved"}, None)
    engine.advance(20)
    assert engine.runs["F"].failure_reason == "not approved"


def test_a_never_ending_step_only_ends_by_a_stop() -> None:
    """A step of infinite duration runs until it is stopped."""
    engine = execution(chain("A"), {"steps": {"A": {"duration": None}}})
    engine.advance(FOREVER)
    assert engine.status == "Executing"
    engine.stop(FOREVER)
    engine.advance(FOREVER + 20)
    assert engine.status == "Stopped"


def test_only_an_executing_execution_can_be_stopped() -> None:
    """A stop is refused when one is under way and when the execution has ended."""
    engine = execution(chain("A"))
    engine.stop(10)
    with pytest.raises(
        StateError, match=r"'Stopping'.*Only pipelines with 'Executing' status can be stopped"
    ):
        engine.stop(11)
    with pytest.raises(StateError, match=r"'Stopped'.*Only pipelines with 'Executing' status can be stopped"):
        engine.stop(FOREVER)


def test_a_retry_repeats_only_what_has_not_succeeded() -> None:
    """A retry keeps succeeded steps and counts the attempts of the others."""
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
    assert [run.started_at for run in engine.runs.values()] == [2, 2002, 2242]


def test_a_retry_takes_a_moment_to_start() -> None:
    """Nothing starts in the first seconds of a retry, whatever else happens."""
    engine = execution(chain("A"))
    engine.stop(100)
    engine.advance(200)
    engine.retry(200, engine.scenario, inf)
    engine.limit(201, 5)
    assert engine.runs == {}
    engine.advance(202)
    assert list(engine.runs) == ["A"]


@pytest.mark.parametrize("duration", [60, 30])
def test_a_callback_step_can_answer_itself(duration: float) -> None:
    """A callback step to which a scenario gives a duration needs nobody to answer it."""
    engine = execution(definition(step("C", "Callback")), {"steps": {"C": {"duration": duration}}})
    engine.advance(FOREVER)
    assert (engine.status, engine.last_modified) == ("Succeeded", 2 + duration)


@pytest.mark.parametrize("now", [10, 100, FOREVER])
def test_only_an_execution_that_ended_without_success_can_be_retried(now: float) -> None:
    """A retry is refused while the execution runs or stops and after it has succeeded."""
    engine = execution(chain("A"))
    if now == 100:
        engine.stop(100)
    with pytest.raises(StateError, match="can be retried"):
        engine.retry(now, engine.scenario, inf)


def test_a_stopped_execution_can_be_retried() -> None:
    """A retry of a stopped execution starts the interrupted step again."""
    engine = execution(chain("A", "B"))
    engine.stop(100)
    engine.advance(200)
    engine.retry(200, engine.scenario, inf)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert timeline(engine)["A"] == (202, 442, "Succeeded")


def test_a_scenario_can_show_any_status_for_a_while() -> None:
    """A status window changes what is shown, not what happens."""
    engine = execution(chain("A"), {"statuses": [{"status": "Pausing", "after": 10, "until": 60}]})
    assert [engine.shown_status(t) for t in (9.9, 10, 59.9, 60)] == [
        "Executing", "Pausing", "Pausing", "Executing",
    ]  # fmt: skip
    assert engine.status == "Executing"


@pytest.mark.parametrize("name", ["abalone", "churn_tuning", "fanout", "scoring_required_params"])
def test_the_example_pipelines_succeed(shared_definitions: Path, name: str) -> None:
    """Each real definition without a callback runs to success by default."""
    text = (shared_definitions / f"{name}.json").read_text()
    values = {key: value.default for key, value in parse(text).parameters.items()}
    engine = execution(text, **values)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"

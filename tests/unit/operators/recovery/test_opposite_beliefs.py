"""
What tasks do if AWS does not do what is believed of it without a source, as
``emulator/docs/what-is-verified.md`` says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import pytest
from botocore.exceptions import EndpointConnectionError

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution import clock, console
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncPutPipelineOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from sagemaker_emulator.builders import ROLE, definition, step
from sagemaker_emulator.errors import ApiError, not_found
from sagemaker_emulator.sagemaker.store import Region
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import Run, run_task
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import CrashError, JobTask, crash
from tests.unit.sensors.sessions import (
    airflow_time,  # noqa: F401 # fixture
    at,
    make_sensor,
    run_sensor,
    start_execution,
)
from tests.world import (
    DESCRIBE,
    LIST,
    LIST_STEPS,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    World,
)

Perform = Callable[[], dict[str, Any]]
# Gets the token of a request, and performs it or not.
Answer = Callable[[str, Perform], dict[str, Any]]
CODES: Final = ("ValidationException", "ConflictException", "NewException")

pytestmark = IN_BOTH_MODES


def let_answer(world: World, operation: str, answer: Answer) -> None:
    """Let AWS answer an operation in another way, also where it knows the token."""
    run = Region.run_idempotently

    def run_or_answer(region: Any, called: str, request: Any, perform: Perform) -> Any:
        if called != operation:
            return run(region, called, request, perform)
        return answer(request.get("ClientRequestToken", ""), perform)

    world.patch.setattr(Region, "run_idempotently", run_or_answer)


# ---- start.same-token-other-parameters


def return_first(first: dict[str, Any], _: Perform) -> dict[str, Any]:
    """Return the execution that the token has started."""
    return first


def refuse_token(first: dict[str, Any], _: Perform) -> dict[str, Any]:
    """Refuse the token, as is believed."""
    raise ApiError("ConflictException", "The token was used.")


def refuse_request(first: dict[str, Any], _: Perform) -> dict[str, Any]:
    """Refuse the token with another code."""
    raise ApiError("ValidationException", "The token was used.")


def start_another(_: dict[str, Any], perform: Perform) -> dict[str, Any]:
    """Start another execution."""
    return perform()


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        (return_first, ["Stopping"]),
        (refuse_token, ["Executing"]),
        (refuse_request, ["Executing"]),
        (start_another, ["Executing", "Stopping"]),
    ],
)
def test_used_token_with_other_values(
    answer: Callable[[dict[str, Any], Perform], dict[str, Any]],
    statuses: list[str],
    make_task: MakeTask,
    world: World,
) -> None:
    """
    An earlier try has died after its start. Its record is deleted, and its execution is
    not found by its name. What the task then waits for, it stops at the timeout.
    """
    responses: dict[str, dict[str, Any]] = {}

    def answer_start(token: str, perform: Perform) -> dict[str, Any]:
        if token in responses:
            return answer(responses[token], perform)
        responses[token] = perform()
        return responses[token]

    world.control.put_scenario(NEVER_ENDS)
    let_answer(world, START, answer_start)
    task = make_task(timeout=7200)
    world.requests.after(START, crash)
    task.next_try(pipeline_parameters={"Shards": 1})
    task.store.values.clear()
    clock.sleep(300)
    world.deny(LIST)

    run = task.next_try(pipeline_parameters={"Shards": 2})

    assert world.log.statuses == statuses
    if answer in (refuse_token, refuse_request):
        assert "client token" in str(run.error) or "was used" in str(run.error)
        return
    values = {return_first: "1", start_another: "2"}
    assert run.xcoms["execution_arn"] == world.log.arns[-1]
    assert run.xcoms["run"]["parameters"] == {"Shards": values[answer]}


# ---- start.token-of-a-refusal


def test_token_of_a_refusal_is_used_up(make_task: MakeTask, world: World) -> None:
    """The start that waited for capacity fails with AWS's words; nothing runs."""
    tokens: list[str] = []

    def refuse(token: str, _: Perform) -> dict[str, Any]:
        tokens.append(token)
        if len(tokens) == 1:
            raise ApiError("ResourceLimitExceeded", "All instances are in use.")
        raise ApiError("ValidationException", "The token was used.")

    let_answer(world, START, refuse)

    run = make_task(wait_for_capacity=True, timeout=3600).next_try()

    assert "The token was used." in str(run.error)
    assert tokens == 2 * tokens[:1]
    assert world.log.statuses == []


# ---- parameter.spellings, parameter.enum, selection.unknown-step,
# ---- selection.missing-source


@pytest.mark.parametrize("code", ["ValidationException", "NewException"])
def test_start_is_refused_in_other_words(
    code: str, make_task: MakeTask, world: World
) -> None:
    """The task fails with them, whatever was wrong, and starts nothing."""

    def refuse(*_: Any) -> dict[str, Any]:
        raise ApiError(code, "Not so.")

    let_answer(world, START, refuse)

    run = make_task(pipeline_parameters={"Shards": "+3"}).next_try()

    assert "Not so." in str(run.error)
    assert world.log.statuses == []


# ---- parameter.as-sent, parameter.defaults


@pytest.mark.usefixtures("airflow_time")
def test_parameters_are_listed_in_another_way(deferrable: bool, world: World) -> None:
    """A search finds what is listed as it looks for it, and no other execution."""
    found = start_execution(Shards="3")
    clock.sleep(60)
    start_execution(Shards="+4")
    window = {"created_after": at(clock.time() - 600), "created_before": clock.now()}

    def list_some(_: str, perform: Perform) -> dict[str, Any]:
        response = perform()
        listed = response["PipelineParameters"]
        # AWS could list no defaults, and numbers in a form of its own.
        response["PipelineParameters"] = [
            {**each, "Value": each["Value"].lstrip("+")}
            for each in listed
            if each["Name"] == "Shards"
        ]
        return response

    let_answer(world, "ListPipelineParametersForExecution", list_some)

    def search(**parameters: Any) -> Any:
        mode = "deferrable" if deferrable else "poke"
        window_of_search = {**window, "parameters": parameters}
        sensor = make_sensor(mode, pipeline_name="fanout", **window_of_search)
        return run_sensor(sensor).result

    assert search(Shards=3) == found
    assert search(Shards="+4") is None
    assert search(Shards=3, Rate=0.5) is None


# ---- stop.stopping


def test_stopped_execution_is_shown_as_executing(
    make_task: MakeTask, world: World
) -> None:
    """What AWS has accepted counts, and is requested once."""
    world.control.put_scenario(NEVER_ENDS)

    def show_executing(_: str, perform: Perform) -> dict[str, Any]:
        return {**perform(), "PipelineExecutionStatus": "Executing"}

    let_answer(world, DESCRIBE, show_executing)

    run = make_task(timeout=3600).next_try()

    assert "may still be running" not in str(run.error)
    assert world.log.statuses == ["Stopping"]
    assert world.calls(STOP) == [STOP]


# ---- stop.text, stop.same-token


def refuse_stops(code: str, is_refused: Callable[[str, set[str]], bool]) -> Answer:
    """
    Return an AWS that refuses stops in its own words.

    :param is_refused: gets the token, and the tokens of the stops before.
    """
    tokens: set[str] = set()

    def answer(token: str, perform: Perform) -> dict[str, Any]:
        if is_refused(token, tokens):
            raise ApiError(code, "Too late.")
        tokens.add(token)
        return perform()

    return answer


@pytest.mark.parametrize("code", CODES)
def test_second_stop_is_refused_in_other_words(
    code: str, deferrable: bool, world: World
) -> None:
    """The status of the execution decides: the task waits for its end."""
    arn = start_execution()
    clock.sleep(60)
    PolysyncSageMakerHook().stop_pipeline_execution(arn)
    let_answer(world, STOP, refuse_stops(code, lambda *_: True))
    operator = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=arn, deferrable=deferrable
    )

    run = run_task(operator)

    assert (run.error, run.result) == (None, "Cancelled")


@pytest.mark.parametrize("code", CODES)
def test_second_stop_with_the_same_token_is_refused(
    code: str, make_task: MakeTask, world: World
) -> None:
    """
    The response to the first one, at the timeout, is lost. The execution is stopping,
    so the stop counts as accepted.
    """
    world.control.put_scenario(NEVER_ENDS)
    answer = refuse_stops(code, lambda token, tokens: token in tokens)
    let_answer(world, STOP, answer)

    def lose(_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://aws")

    def lose_response(_: Any) -> None:
        # Nor does AWS say then whether the execution is stopping.
        world.requests.before(DESCRIBE, lose)
        lose(_)

    world.requests.after(STOP, lose_response)

    run = make_task(timeout=3600).next_try()

    assert "may still be running" not in str(run.error)
    assert world.log.statuses == ["Stopping"]
    assert len(world.calls(STOP)) > 1


def test_token_that_has_met_a_conflict_stops_nothing(
    make_task: MakeTask, world: World
) -> None:
    """The last request has another token."""
    world.control.put_scenario(NEVER_ENDS)
    refused: set[str] = set()

    def answer(token: str, perform: Perform) -> dict[str, Any]:
        if not refused or token in refused:
            refused.add(token)
            raise ApiError("ConflictException", "Between two steps.")
        return perform()

    let_answer(world, STOP, answer)

    run = make_task(timeout=3600).next_try()

    assert "may still be running" not in str(run.error)
    assert world.log.statuses == ["Stopping"]


# ---- resume.status, resume.other-token

MERGE_FAILS_ONCE: Final = {"steps": {"Merge": {"fail": {"reason": "x", "times": 1}}}}


def show_resumes_late(world: World, seconds: float) -> None:
    """Let AWS show the end before a resume for some seconds after it."""
    ended: dict[str, Any] = {}
    resumed_at: list[float] = []

    def resume(_: str, perform: Perform) -> dict[str, Any]:
        response = perform()
        resumed_at.append(clock.time())
        return response

    def describe(_: str, perform: Perform) -> dict[str, Any]:
        response = perform()
        if resumed_at and clock.time() < resumed_at[0] + seconds:
            return ended
        ended.update(response)
        return response

    def run_or_answer(region: Any, called: str, request: Any, perform: Perform) -> Any:
        if called not in (RETRY, DESCRIBE):
            return run(region, called, request, perform)
        if called == DESCRIBE:
            return describe("", perform)
        return run(region, called, request, lambda: resume("", perform))

    run = Region.run_idempotently
    world.patch.setattr(Region, "run_idempotently", run_or_answer)


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_resume_is_shown_late(dies: bool, make_task: MakeTask, world: World) -> None:
    """
    The task waits, and so does the next try if the process dies meanwhile; nothing
    starts beside the resumed execution.
    """
    world.control.put_scenario(MERGE_FAILS_ONCE)
    show_resumes_late(world, 40)
    task = make_task(retry_mode="resume", poll_interval=10)
    assert task.next_try().error is not None
    if dies:
        world.time.after(3, crash)
        assert isinstance(task.next_try().error, CrashError)

    assert task.next_try().error is None
    assert world.log.statuses == ["Succeeded"]


def test_second_failure_is_not_the_first_one(make_task: MakeTask, world: World) -> None:
    """The task fails when the resumed execution has failed again."""
    world.control.put_scenario({"steps": {"Merge": {"fail": {"reason": "x"}}}})
    show_resumes_late(world, 40)
    task = make_task(retry_mode="resume", poll_interval=10)

    first, second = task.next_try(), task.next_try()

    assert first.error is not None
    assert second.error is not None
    assert second.xcoms["run"]["ended_at"] > first.xcoms["run"]["ended_at"]
    assert world.log.statuses == ["Failed"]


def test_running_execution_can_be_resumed(make_task: MakeTask, world: World) -> None:
    """Somebody else has resumed it; AWS accepts the resume of the task, too."""
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    (arn,) = world.log.arns

    def resume(_: str, perform: Perform) -> dict[str, Any]:
        if world.log.statuses == ["Executing"]:
            return {"PipelineExecutionArn": arn}
        return perform()

    let_answer(world, RETRY, resume)

    def resume_first(_: Any) -> None:
        client: Any = PolysyncSageMakerHook().conn
        client.retry_pipeline_execution(PipelineExecutionArn=arn)

    world.requests.before(RETRY, resume_first)

    run = task.next_try()

    assert run.error is None
    assert run.result == arn
    assert world.log.statuses == ["Succeeded"]


# ---- link.execution


def test_console_has_another_address(make_task: MakeTask, world: World) -> None:
    """It is for people only: no code reads it again."""
    world.patch.setattr(console, "service_url", lambda *_: "https://example.com/x")

    run = make_task().next_try()

    assert run.error is None
    assert run.result == run.xcoms["execution_arn"] == world.log.arns[0]
    assert run.xcoms["console_url"] == "https://example.com/x"


# ---- list.same-name-in-another-case


@pytest.mark.usefixtures("airflow_time")
def test_names_differ_in_case_only(
    make_task: MakeTask, deferrable: bool, world: World
) -> None:
    """AWS gets each name as it was given, and never another pipeline's execution."""
    start_execution()
    created_after = at(clock.time() - 1)
    (region,) = world.emulator.sagemaker.regions.values()

    def pipeline(_: Any, name_or_arn: str) -> Any:
        name = name_or_arn.rpartition("/")[2]
        for each in region.pipelines.values():
            if each.name == name:
                return each
        raise not_found(f"Pipeline '{name_or_arn}' does not exist.")

    world.patch.setattr(Region, "pipeline", pipeline)
    client: Any = PolysyncSageMakerHook().conn
    client.create_pipeline(
        PipelineName="other", PipelineDefinition=definition(step("A")), RoleArn=ROLE
    )
    other = region.pipelines["other"]
    other.name = "FanOut"
    other.arn = region.arn("pipeline", other.name)

    def run(pipeline_name: str) -> Run:
        task = make_task(pipeline_name=pipeline_name)
        task.run_id = pipeline_name
        return task.next_try()

    lower, upper, unknown = map(run, ("fanout", "FanOut", "FANOUT"))

    assert (lower.error, upper.error) == (None, None)
    assert [each.result.split("/")[1] for each in (lower, upper)] == [
        "fanout",
        "FanOut",
    ]
    assert "'FANOUT' does not exist" in str(unknown.error)
    mode = "deferrable" if deferrable else "poke"
    window = {"pipeline_name": "FanOut", "created_after": created_after}
    found = run_sensor(make_sensor(mode, **window))
    assert found.xcoms["execution_arn"] == upper.result


# ---- outcome.end-time


def test_execution_is_modified_after_its_end(make_task: MakeTask, world: World) -> None:
    """The end in the XComs is that time, and nothing else differs."""
    end = at(clock.time() + 10**6)

    def modify(_: str, perform: Perform) -> dict[str, Any]:
        return {**perform(), "LastModifiedTime": end.timestamp()}

    let_answer(world, DESCRIBE, modify)

    run = make_task().next_try()

    assert run.error is None
    assert run.xcoms["run"]["state"] == "Success"
    assert datetime.fromisoformat(run.xcoms["run"]["ended_at"]) == end


# ---- outcome.first-attempt


PRICES: Final = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {"us-east-1": {"ml.m5.large": 3600}},
}
RESOURCES: Final = {
    "InstanceType": "ml.m5.large",
    "InstanceCount": 1,
    "VolumeSizeInGB": 1,
}
REPEATED: Final = {
    "Arguments": {"ResourceConfig": RESOURCES},
    "RetryPolicies": [{"ExceptionType": ["SageMaker.CAPACITY_ERROR"]}],
}
FAILS_ONCE: Final = {
    "duration": 1,
    "fail": {"reason": "CapacityError: none", "times": 1},
}


def test_attempts_are_counted_from_0(make_task: MakeTask, world: World) -> None:
    """XComs, log and cost say the same as if they are counted from 1."""
    world.patch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(PRICES))
    steps = [step("A", "Training"), step("B", "Training", "A", **REPEATED)]
    client: Any = PolysyncSageMakerHook().conn
    client.create_pipeline(
        PipelineName="repeats", PipelineDefinition=definition(*steps), RoleArn=ROLE
    )
    world.control.put_scenario({"steps": {"B": FAILS_ONCE}})
    first_attempt = 1

    def answer(_: str, perform: Perform) -> dict[str, Any]:
        response = perform()
        for entry in response["PipelineExecutionSteps"]:
            entry["AttemptCount"] += first_attempt - 1
        return response

    let_answer(world, LIST_STEPS, answer)
    seen = []
    # So seldom that no list has the first job of B.
    intervals = {"poll_interval": 600, "progress_interval": 600}
    for first_attempt in (1, 0):  # noqa: B007 # ``answer`` uses it
        task = make_task(pipeline_name="repeats", max_cost=10**6, **intervals)
        with capture_logs() as logs:
            run = task.next_try()
        rows = [(row["name"], row["attempt"]) for row in run.xcoms["steps"]]
        lines = "\n".join(texts_of(logs))
        seen.append(
            (rows, run.xcoms["run"]["spending"]["note"], "(attempt 2)" in lines)
        )

    assert seen[0] == ([("A", 1), ("B", 2)], "Not counted: earlier attempts (B).", True)
    assert seen[1] == seen[0]


# ---- start.unchanged-definition, start.white-space, start.parallel-updates


def make_a_version_always(world: World, perform: Perform) -> dict[str, Any]:
    """Make a version of each update."""
    perform()
    versions = made(world).versions
    versions.append(replace(versions[-1], id=len(versions) + 1))
    return {"PipelineArn": made(world).arn, "PipelineVersionId": versions[-1].id}


def find_late(world: World, perform: Perform) -> dict[str, Any]:
    """Find the pipeline three seconds after the first update."""
    if len(world.calls("UpdatePipeline")) < 4:
        raise not_found("There is none.")
    return perform()


def refuse_for_a_minute(world: World, perform: Perform) -> dict[str, Any]:
    """Refuse an update, because there is another one."""
    if len(world.calls("UpdatePipeline")) < 9:
        raise ApiError("ConflictException", "busy")
    return perform()


def put_and_start(deferrable: bool) -> tuple[int, Run]:
    """Put a pipeline, and start the version that this task has returned."""
    put = run_task(
        PolysyncPutPipelineOperator(
            task_id="put",
            pipeline_name="made",
            definition=definition(step("A")),
            role_arn=ROLE,
        )
    )
    assert put.error is None
    version = put.xcoms["pipeline_version_id"]
    start = PolysyncStartPipelineOperator(
        task_id="start",
        pipeline_name="made",
        pipeline_version_id=version,
        deferrable=deferrable,
    )
    return version, run_task(start)


def made(world: World) -> Any:
    """Return the pipeline."""
    return world.emulator.sagemaker.regions["us-east-1"].pipelines["made"]


@pytest.mark.parametrize(
    ("answer", "version"),
    [(make_a_version_always, 2), (find_late, 1), (refuse_for_a_minute, 1)],
)
def test_put_where_updates_are_answered_in_another_way(
    answer: Any, version: int, deferrable: bool, world: World
) -> None:
    """The version that AWS has returned is started."""
    assert put_and_start(deferrable)[0] == 1
    world.control.clear_calls()
    let_answer(world, "UpdatePipeline", lambda _, perform: answer(world, perform))

    assert put_and_start(deferrable)[0] == version
    assert world.log.statuses == ["Succeeded", "Succeeded"]


def test_first_version_has_another_number(deferrable: bool, world: World) -> None:
    """The start fails once; the next put knows the number."""

    def create(_: str, perform: Perform) -> dict[str, Any]:
        response = perform()
        made(world).versions[0] = replace(made(world).versions[0], id=7)
        return response

    let_answer(world, "CreatePipeline", create)

    _, run = put_and_start(deferrable)
    assert isinstance(run.error, SageMakerApiError), run.error
    version, run = put_and_start(deferrable)

    assert (version, run.error) == (7, None)


# ---- start.after-creation


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_start_does_not_find_the_new_pipeline(
    dies: bool, deferrable: bool, world: World
) -> None:
    """
    The start is sent again, also by the next try if the process dies meanwhile, and the
    task does not fail.
    """
    missing = {"code": "ResourceNotFound", "message": "none", "count": 3}
    world.control.add_fault("error", START, **missing)
    task = JobTask(deferrable)
    if dies:
        world.requests.after(START, crash)
        assert isinstance(task.next_try().error, CrashError)

    assert task.next_try().error is None
    assert world.log.statuses == ["Succeeded"]


# ---- definition.references


def test_references_are_refused(deferrable: bool, world: World) -> None:
    """Nothing is started; a config without templates, as a task makes it, runs."""

    def refuse_references(_: str, perform: Perform) -> dict[str, Any]:
        response = perform()
        (region,) = world.emulator.sagemaker.regions.values()
        name, pipeline = region.pipelines.popitem()
        if "Parameters." in json.dumps(pipeline.versions[0].definition.document):
            raise ApiError("ValidationException", "Cannot assign it.")
        region.pipelines[name] = pipeline
        return response

    let_answer(world, "CreatePipeline", refuse_references)
    refused = JobTask(deferrable).next_try()
    config = step("A")["Arguments"]
    made = JobTask(deferrable, run_id="2", config=config).next_try()

    assert "Cannot assign it." in str(refused.error)
    assert made.error is None
    assert world.log.statuses == ["Succeeded"]


# ---- resume.definition


def test_resume_has_the_latest_definition(deferrable: bool, world: World) -> None:
    """The one execution goes on with the config of another run, and has its end."""
    failure = {"reason": "AlgorithmError: x", "times": 1}
    world.control.put_scenario({"steps": {"train": {"fail": failure}}})
    task = JobTask(deferrable, {"retry_mode": "resume"})
    task.next_try()
    config = step("A")["Arguments"]
    JobTask(run_id="2", config=config).next_try()
    repeated: list[Any] = []

    def resume(_: str, perform: Perform) -> dict[str, Any]:
        first: Any = world.log.executions[0]
        latest = first.pipeline.versions[-1].definition.steps["train"]
        first.engine.definition.steps["train"] = latest
        repeated.append(latest.arguments)
        return perform()

    let_answer(world, RETRY, resume)

    assert task.next_try().error is None
    assert repeated == [config]
    # That of the other run has no resume.
    assert world.log.statuses == ["Succeeded", "Failed"]

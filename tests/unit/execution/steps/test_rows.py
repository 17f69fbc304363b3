"""
The XComs ``steps`` and ``outputs``: order, states, links, sizes, and what others may
have written.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.execution.console import is_console_url
from polysync_airflow.execution.pipelines import DeclaredStep, declared_steps
from polysync_airflow.execution.steps.descriptions import (
    MAX_XCOM_BYTES,
    NOT_STARTED,
    STEP_KINDS,
    StepDescription,
    counted_from_one,
    fit_outputs,
    fit_rows,
    last_lines,
    log_source,
    model_package_arns,
    order_of,
    order_text,
    outputs_by_step,
    parse_rows,
    rows_of,
    snake_case,
)

EXECUTION = (
    "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/abc123"
)
JOB = "arn:aws:sagemaker:eu-central-1:123456789012:training-job/pipelines-abc-Train-x1"
START = datetime(2026, 1, 1, tzinfo=UTC)


def step(name: str, status: str = "Succeeded", **members: Any) -> StepDescription:
    """Return a step as AWS lists it."""
    response = {"StepName": name, "StepStatus": status, **members}
    return StepDescription.model_validate(response)


TUNING_JOB = "hyper-parameter-tuning-job/a"


AWS_CONSOLE = "https://eu-central-1.console.aws.amazon.com"


def url_of(page: str) -> str:
    """Return the URL of a page in the console of the region."""
    service, _, fragment = page.partition("#")
    return f"{AWS_CONSOLE}/{service}?region=eu-central-1#{fragment}"


def test_rows_are_in_the_order_of_the_definition() -> None:
    """
    Steps that AWS has not begun are there, too; steps that are not in the definition
    come last.
    """
    declared = {"Prepare": "Processing", "Train": "Training", "Check": None}
    order = [DeclaredStep(name, type_) for name, type_ in declared.items()]
    extra = step("Extra", "Executing", StartTime=START)
    steps = [extra, step("Train", "Starting"), step("Prepare")]

    rows = rows_of(steps, order, EXECUTION)

    assert [(row.name, row.type, row.state, row.status) for row in rows] == [
        ("Prepare", "Processing", "Success", "Succeeded"),
        ("Train", "Training", "Running", "Starting"),
        ("Check", None, NOT_STARTED, None),
        ("Extra", None, "Running", "Executing"),
    ]
    # The rows themselves give the same order again.
    names = [row.name for row in rows_of((), rows, EXECUTION)]
    assert names == ["Prepare", "Train", "Check", "Extra"]


def test_row_of_a_failed_training_step_links_to_its_job_and_log() -> None:
    """
    The row names the job and links to it and to its log, encoded as the console does.
    """
    failed = step(
        "Train",
        "Failed",
        FailureReason="AlgorithmError: no data\x1b[31m",
        AttemptCount=2,
        StartTime=START,
        EndTime=START + timedelta(seconds=90.5),
        Metadata={"TrainingJob": {"Arn": JOB}},
    )

    (row,) = rows_of([failed], (), EXECUTION)

    group = "log-groups/log-group/$252Faws$252Fsagemaker$252FTrainingJobs"
    streams = "logStreamNameFilter$3Dpipelines-abc-Train-x1$252F"
    assert row.model_dump(mode="json") == {
        "name": "Train",
        "type": "Training",
        "condition": None,
        "branch": None,
        "not_taken": False,
        "not_selected": False,
        "state": "Failed",
        "status": "Failed",
        "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "2026-01-01T00:01:30.500000Z",
        "seconds": 90.5,
        "attempt": 2,
        "cache_hit": False,
        "reused_from": None,
        "reason": "AlgorithmError: no data\N{REPLACEMENT CHARACTER}[31m",
        "job_arn": JOB,
        "job_name": "pipelines-abc-Train-x1",
        "console_url": url_of("sagemaker/home#/jobs/pipelines-abc-Train-x1"),
        "log_url": url_of(f"cloudwatch/home#logsV2:{group}$3F{streams}"),
        "log_lines": [],
    }


def test_row_links_to_the_page_of_its_kind_in_the_console() -> None:
    """None if the console has no such page."""
    for kind, resource, page in (
        ("ProcessingJob", "processing-job/a", "sagemaker/home#/processing-jobs/a"),
        ("TransformJob", "transform-job/a", "sagemaker/home#/transform-jobs/a"),
        ("TuningJob", TUNING_JOB, "sagemaker/home#/hyper-tuning-jobs/a"),
        ("Model", "model/a", "sagemaker/home#/models/a"),
        ("Endpoint", "endpoint/a", "sagemaker/home#/endpoints/a"),
        ("EndpointConfig", "endpoint-config/a", "sagemaker/home#/endpointConfig/a"),
        ("Lambda", "function:a", "lambda/home#/functions/a"),
        ("RegisterModel", "model-package/a/1", None),
        ("InferenceComponent", "inference-component/a", None),
    ):
        arn = f"arn:aws:sagemaker:eu-central-1:123456789012:{resource}"

        (row,) = rows_of([step("Step", Metadata={kind: {"Arn": arn}})], (), EXECUTION)

        assert row.console_url == (page and url_of(page))


def test_isolated_partition_has_no_links() -> None:
    """There is no public console to link to."""
    execution = EXECUTION.replace("arn:aws:", "arn:aws-iso:")

    train = step("Train", Metadata={"TrainingJob": {"Arn": JOB}})
    spark = step("Spark", Metadata={"EMR": {"LogFilePath": "s3://logs/a/stderr.gz"}})
    rows = rows_of([train, spark], (), execution)

    for row in rows:
        assert row.console_url is None
        assert row.log_url is None
    assert rows[-1].job_name == "pipelines-abc-Train-x1"


CALL = {"Arn": "arn:l", "OutputParameters": [{"Name": "a", "Value": "1"}]}
CALLBACK = {"CallbackToken": "secret", "SqsQueueUrl": "q", "OutputParameters": []}
QUALITY = {"CheckType": "DATA", "CheckJobArn": "arn:c", "SkipCheck": False}
CHECKED = {"check_type": "DATA", "check_job_arn": "arn:c", "skip_check": False}
CLUSTER = {"ClusterId": "j-1", "StepId": "s-1"}


def test_each_kind_of_step_has_its_outputs() -> None:
    """An unknown kind is given as AWS gives it. The token of a callback is left out."""
    for kind, metadata, outputs in (
        ("RegisterModel", {"Arn": "arn:mp"}, {"model_package_arn": "arn:mp"}),
        ("Condition", {"Outcome": "True"}, {"outcome": "True"}),
        ("AutoMLJob", {"Arn": "arn:a"}, {"auto_ml_job_arn": "arn:a"}),
        ("Lambda", CALL, {"lambda_arn": "arn:l", "output_parameters": {"a": "1"}}),
        ("Callback", CALLBACK, {"sqs_queue_url": "q", "output_parameters": {}}),
        ("EMR", CLUSTER, {"cluster_id": "j-1", "step_id": "s-1"}),
        ("QualityCheck", QUALITY, CHECKED),
        ("Fail", {"ErrorMessage": "auc"}, {"error_message": "auc"}),
        ("BedrockModelImport", {"Arn": "arn:b"}, {"model_import_arn": "arn:b"}),
        ("ForEach", {"InputItemCount": 2}, {"input_item_count": 2}),
        ("QuantumJob", {"Qubits": 3}, {"qubits": 3}),
        ("QuantumJob", {"Arn": "arn:q"}, {"quantum_job_arn": "arn:q"}),
    ):
        described = step("It", Metadata={kind: metadata})

        assert outputs_by_step([described]) == {"It": outputs}
    for described in (
        step("It", Metadata={"RegisterModel": {}}),
        step("It", Metadata={}),
    ):
        assert outputs_by_step([described]) == {}


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_type_of_a_row_is_that_of_the_definition(kind: str) -> None:
    """A row has the same type before and after its step begins."""
    (row,) = rows_of([step("It", Metadata={kind: {}})], (), EXECUTION)

    assert row.type == kind.removesuffix("Job") or row.type == kind == "Job"


QUERY = {"Athena": {"QueryExecutionId": "12-ab"}}


def test_job_without_an_arn_is_named_by_its_id() -> None:
    """It is the name of the job, and leads to its page."""
    for metadata, name, page in (
        ({"EMR": CLUSTER}, "j-1", "emr/home#/clusterDetails/j-1"),
        (QUERY, "12-ab", "athena/home#/query-editor/history/12-ab"),
        ({"EMRServerless": {"JobRunId": "00f1"}}, "00f1", None),
        ({"EMR": {"StepId": "s-1"}}, None, None),
        ({"EMR": {"ClusterId": 7}}, None, None),
    ):
        (row,) = rows_of([step("It", Metadata=metadata)], (), EXECUTION)

        assert (row.job_arn, row.job_name) == (None, name)
        assert row.console_url == (page and url_of(page))


def test_model_packages_are_found() -> None:
    """The asset event gets the ARNs of all registered models."""
    steps = [
        step("B", Metadata={"RegisterModel": {"Arn": "arn:2"}}),
        step("A", Metadata={"Model": {"Arn": "arn:m"}}),
    ]
    assert model_package_arns(outputs_by_step(steps)) == ["arn:2"]


def with_arn(kind: str, resource: str, member: str = "Arn") -> dict[str, Any]:
    """Return the metadata of a step with a resource."""
    return {kind: {member: f"arn:aws:sagemaker:r:1:{resource}"}}


PROCESSING = with_arn("ProcessingJob", "processing-job/p")
TUNING = with_arn("TuningJob", "hyper-parameter-tuning-job/t")
CLARIFY = with_arn("ClarifyCheck", "processing-job/c", "CheckJobArn")


def test_each_kind_of_job_has_its_log_group_and_prefix() -> None:
    """Each kind of job has its log group and prefix."""
    for metadata, group, prefix in (
        (PROCESSING, "sagemaker/ProcessingJobs", "p/"),
        (TUNING, "sagemaker/TrainingJobs", "t-"),
        (CLARIFY, "sagemaker/ProcessingJobs", "c/"),
        (with_arn("Lambda", "function:notify"), "lambda/notify", ""),
        (with_arn("RegisterModel", "model-package/g/1"), None, None),
        ({"TrainingJob": {"Arn": "not an ARN"}}, None, None),
        ({"TrainingJob": "not a dict"}, None, None),
        (None, None, None),
    ):
        source = log_source(step("It", Metadata=metadata))

        assert source == (group and (f"/aws/{group}", prefix))


@pytest.mark.parametrize("kind", ["EMR", "EMRServerless"])
@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("s3://logs/emr run/steps/s-1/stderr.gz", "emr%20run%2Fsteps%2Fs-1%2F"),
        ("s3n://logs/a/b/", "a%2Fb%2F"),
        ("s3://logs", ""),
        ("https://evil.example.com/a", None),
        ("s3://", None),
        (None, None),
    ],
)
def test_emr_links_to_its_logs(kind: str, path: Any, prefix: str | None) -> None:
    """
    EMR writes to S3. The folder has all logs of the step; the path is that of the one
    with the cause.
    """
    metadata = {kind: {"LogFilePath": path}}

    (row,) = rows_of([step("Spark", "Failed", Metadata=metadata)], (), EXECUTION)

    if prefix is None:
        assert row.log_url is None
        return
    query = f"region=eu-central-1&prefix={prefix}"
    assert row.log_url == f"{AWS_CONSOLE}/s3/buckets/logs?{query}"
    assert is_console_url(row.log_url)


def iteration(name: str, index: int, parent: Any = "Loop") -> StepDescription:
    """Return a step that a loop runs."""
    context = {"ParentStepName": parent, "Index": index}
    start = START + timedelta(seconds=index)
    return step(name, IterationContext=context, StartTime=start)


def test_iterations_of_a_loop_have_names_of_their_own() -> None:
    """
    They are AWS's: the name of the step and the index. They follow the loop, also one
    that was not declared.
    """
    order = [DeclaredStep(name, None) for name in ("Prepare", "Loop", "Report")]
    steps = [iteration("Score-0", 0), iteration("Score", 1), step("Loop")]
    steps += [iteration("Any-0", 0, "Other"), step("Extra", StartTime=START)]
    steps += [step("Other", StartTime=START)]
    steps += [iteration("Odd-2", 2, 7), iteration("Odd-3", 3, "Gone")]

    rows = rows_of(steps, order, EXECUTION)

    names = "Prepare Loop Score-0 Score-1 Report Extra Other Any-0 Odd-2 Odd-3"
    assert " ".join(row.name for row in rows) == names
    # The rows are the order of the next list, which has one iteration more.
    rows = rows_of([*steps, iteration("Score-2", 2)], rows, EXECUTION)
    names = "Score-0 Score-1 Score-2 Report"
    assert " ".join(row.name for row in rows[2:6]) == names


@pytest.mark.parametrize("count", [60, 200, 1000])
def test_rows_fit_into_an_xcom(count: int) -> None:
    """Links go first, then names of jobs; 200 steps are complete apart from that."""
    metadata = {"TrainingJob": {"Arn": JOB}}
    times: Any = {"StartTime": START, "EndTime": START + timedelta(seconds=1)}
    names = [f"TrainTheModelNumber{n:04}" for n in range(count - 1)]
    steps = [step(name, Metadata=metadata, **times) for name in names]
    steps.append(step("Bad", "Failed", FailureReason="x" * 1300, Metadata=metadata))

    fitted, note = fit_rows(rows_of(steps, (), EXECUTION))

    assert len(json.dumps(fitted).encode()) <= MAX_XCOM_BYTES
    if count <= 200:
        assert (len(fitted), note) == (count, None)
        assert next(row for row in fitted if row["name"] == "Bad")["log_url"]
    else:
        assert (
            note
            == f"The XCom steps has the first {len(fitted)} of 1000 steps: the rest is too long."
        )


def test_logs_leave_room_for_the_rows() -> None:
    """Of long logs, the last lines are kept; the rows stay complete."""
    lines = [f"{number:03} " + "x" * 490 for number in range(200)]
    kept = last_lines(lines, 5)
    metadata = {"TrainingJob": {"Arn": JOB}}
    steps = [step(f"S{n}", "Failed", Metadata=metadata) for n in range(20)]
    rows = [
        row.model_copy(update={"log_lines": kept if n < 5 else []})
        for n, row in enumerate(rows_of(steps, (), EXECUTION))
    ]

    fitted, note = fit_rows(rows)

    assert kept == lines[-len(kept) :]
    assert 5 < len(kept) < 20
    assert last_lines(["short"], 1) == ["short"]
    assert (len(fitted), note, fitted[0]["log_lines"]) == (20, None, kept)


def test_outputs_fit_into_an_xcom() -> None:
    """The longest values are left out, and the note names them; what is short stays."""
    outputs: dict[str, Any] = {
        f"Call{n:02}": {"lambda_arn": "arn:l", "output_parameters": {"x": "y" * 1000}}
        for n in range(60)
    }
    curve = {"curve": ["0.5"] * 4000}
    outputs["Evaluate"] = {"processing_job_arn": "arn:p", "Eval": curve}
    outputs["Register"] = {"model_package_arn": "arn:mp"}

    fitted, note = fit_outputs(outputs)

    assert MAX_XCOM_BYTES - 2000 < len(json.dumps(fitted).encode()) <= MAX_XCOM_BYTES
    assert fitted["Register"] == outputs["Register"]
    assert fitted["Evaluate"] == {"processing_job_arn": "arn:p"}
    assert all(fitted[f"Call{n:02}"]["lambda_arn"] == "arn:l" for n in range(60))
    assert note is not None
    assert note.startswith(
        "The XCom outputs lacks what is too long: Evaluate.Eval, Call59.output_parameters"
    )
    assert note.endswith(" more.")


def test_outputs_of_very_many_steps_fit_into_an_xcom() -> None:
    """Model packages are kept, and other steps are left out whole."""
    outputs: Any = {
        f"Train{n:04}": {"training_job_arn": "a" * 100} for n in range(1000)
    }
    outputs["Train0999"] = {"model_package_arn": "arn:mp"}

    fitted, note = fit_outputs(outputs)

    assert MAX_XCOM_BYTES - 1000 < len(json.dumps(fitted).encode()) <= MAX_XCOM_BYTES
    assert "Train0999" in fitted
    assert note is not None
    assert note.startswith("The XCom outputs lacks what is too long: Train0")


@pytest.mark.parametrize(
    "value", ["text", [{"name": 1}], {"a": 1}, [1], [{"name": "x" * 10, "state": None}]]
)
def test_edited_xcom_counts_as_none(value: Any) -> None:
    """Others can edit XComs."""
    assert parse_rows(value) == []


def test_metadata_is_bounded() -> None:
    """Whatever a response holds, what is kept of it is JSON of limited size."""
    deep: Any = "end"
    for _ in range(50):
        deep = {"x": deep}
    large = {"Arn": "a" * 9000, "Deep": deep, "Many": list(range(5000))}
    odd = {"Bytes": b"x", "Nan": float("nan")}

    described = step("It", Metadata={"Lambda": {**large, **odd}})
    (made,) = outputs_by_step([described]).values()

    assert len(json.dumps(made)) < 4000
    assert len(made["lambda_arn"]) == 1024


def test_steps_of_both_branches_follow_their_condition() -> None:
    """The steps of both branches of a condition follow it."""
    branches = {
        "IfSteps": [{"Name": "Register", "Type": "RegisterModel"}],
        "ElseSteps": [{"Name": "Fail", "Type": "Fail"}],
    }
    definition = {
        "Steps": [
            {"Name": "Train", "Type": "Training"},
            {"Name": "Check", "Type": "Condition", "Arguments": branches},
            {"Name": "Notify", "Type": "Lambda"},
        ]
    }
    assert [step[:4] for step in declared_steps(json.dumps(definition))] == [
        ("Train", "Training", None, None),
        ("Check", "Condition", None, None),
        ("Register", "RegisterModel", "Check", "True"),
        ("Fail", "Fail", "Check", "False"),
        ("Notify", "Lambda", None, None),
    ]


def branch(condition: str, outcome: str, *names: str) -> list[DeclaredStep]:
    """Return steps of a branch of a condition."""
    return [DeclaredStep(name, "Lambda", condition, outcome) for name in names]


NESTED = [
    DeclaredStep("Check", "Condition"),
    *branch("Check", "True", "Register"),
    DeclaredStep("Again", "Condition", "Check", "False"),
    *branch("Again", "True", "Retrain"),
    *branch("Again", "False", "Report"),
    DeclaredStep("Notify", "Lambda"),
]


def test_steps_of_a_branch_that_was_not_taken_are_marked() -> None:
    """
    As soon as the outcome of the condition is known; a condition in such a branch has
    no outcome.
    """
    for outcomes, not_taken in (
        ({"Check": None}, []),
        ({"Check": "True"}, ["Again", "Retrain", "Report"]),
        ({"Check": "False"}, ["Register"]),
        ({"Check": "False", "Again": "False"}, ["Register", "Retrain"]),
    ):
        steps = [
            step(name, Metadata={"Condition": {"Outcome": outcome}})
            for name, outcome in outcomes.items()
        ]

        rows = rows_of(steps, NESTED, EXECUTION)

        assert [row.name for row in rows if row.not_taken] == not_taken
        # From the rows themselves, as a trigger does it.
        assert rows_of(steps, rows, EXECUTION) == rows


def test_unusable_outcome_leaves_no_branch_out() -> None:
    """A step of another kind has the name of the condition."""
    check = step("Check", Metadata={"Lambda": {"Outcome": "True"}})

    rows = rows_of([check], NESTED, EXECUTION)

    assert not any(row.not_taken for row in rows)


def test_damaged_definition_declares_nothing() -> None:
    """Any user of the account may have written it."""
    for definition in (
        None,
        "[]",
        "{",
        '{"Steps": 3}',
        '{"Steps": [1, {"Name": 2}, {"Arguments": {"IfSteps": 7}}]}',
    ):
        assert declared_steps(definition) == []


def test_names_of_aws_become_snake_case() -> None:
    """AWS's names in Python's spelling."""
    names = "SqsQueueUrl S3OutputLocation EMRServerless CheckJobArn"
    converted = "sqs_queue_url s3_output_location emr_serverless check_job_arn"
    assert list(map(snake_case, names.split())) == converted.split()


def test_row_says_from_which_execution_its_result_is() -> None:
    """
    A row says from which execution its result is; steps that were not selected stay
    marked in later lists.
    """
    source = EXECUTION[:-3] + "xyz"
    order = [
        DeclaredStep(name, None, not_selected=name != "Train")
        for name in ("Prepare", "Train", "Deploy")
    ]
    result = {"SourcePipelineExecutionArn": source}
    empty = {"SourcePipelineExecutionArn": ""}
    damaged = {"SourcePipelineExecutionArn": "javascript:x"}
    longer = {"SourcePipelineExecutionArn": f"{source}\n"}
    steps = [
        step("Prepare", CacheHitResult=empty, SelectiveExecutionResult=result),
        step("Train", CacheHitResult=empty, SelectiveExecutionResult=empty),
        step("Cached", CacheHitResult=result),
        step("Damaged", SelectiveExecutionResult=damaged),
        step("Longer", SelectiveExecutionResult=longer),
    ]

    before = rows_of((), order, EXECUTION)
    rows = {row.name: row for row in rows_of(steps, before, EXECUTION)}

    assert [row.not_selected for row in before] == [True, False, True]
    # A trigger has them as a text.
    assert order_of(order_text(before)) == order
    assert {name: row.reused_from for name, row in rows.items() if row.reused_from} == {
        "Prepare": source,
        "Cached": source,
    }
    assert [name for name, row in rows.items() if row.not_selected] == ["Deploy"]
    assert [each.is_reused for each in steps] == [True, False, True, True, True]
    assert [each.cache_hit for each in steps] == [False, False, True, False, False]


WITH_JOB: Any = {"Metadata": {"TrainingJob": {"Arn": JOB}}}
REUSED: Any = {"CacheHitResult": {"SourcePipelineExecutionArn": EXECUTION}}


@pytest.mark.parametrize(
    ("first", "counts"),
    [
        # Only a step that has run says with which number AWS begins.
        (step("A", AttemptCount=0), [1, 2, None, 0]),
        (step("A", "Failed", AttemptCount=0, **WITH_JOB), [1, 2, None, 0]),
        (step("A", "Failed", AttemptCount=0), [0, 1, None, 0]),
        (step("A", "Starting", AttemptCount=0), [0, 1, None, 0]),
        (step("A", AttemptCount=1), [1, 1, None, 0]),
        (step("A", AttemptCount=0, **REUSED), [0, 1, None, 0]),
    ],
)
def test_attempts_are_counted_from_1(
    first: StepDescription, counts: list[int | None]
) -> None:
    """Also if AWS counts from 0; a reused result has had no attempt."""
    steps = [
        first,
        step("B", "Executing", AttemptCount=1, **WITH_JOB),
        step("C"),
        step("D", AttemptCount=0, **REUSED),
    ]

    assert [each.attempt_count for each in counted_from_one(steps)] == counts

"""
Invalid arguments and connections are refused before any call to AWS, with field, value
and cure.
"""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from polysync_airflow.exceptions import CredentialsError, ParametersError
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.tasks import Run, run_task
from tests.world import World

OTHER = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/other/execution/abcdefghijkl"
INVALID_STARTS = {
    "83-character display name": (
        {"execution_display_name": "a" * 83},
        [
            "execution_display_name = 'aaa",
            "(83 characters)",
            "at most 82",
            "the operator makes a unique name",
        ],
    ),
    "201 parameters": (
        {"pipeline_parameters": {f"P{n}": n for n in range(201)}},
        ["pipeline_parameters = a dict of 201", "at most 200"],
    ),
    "1,025-character value": (
        {"pipeline_parameters": {"Big": "x" * 1025}},
        [
            "pipeline_parameters['Big']",
            "(1,025 characters)",
            "1 to 1,024 characters",
            "S3 URI",
        ],
    ),
    "None": (
        {"pipeline_parameters": {"X": None}},
        ["pipeline_parameters['X'] = None", "leave a parameter out"],
    ),
    "reserved parameter name": (
        {"pipeline_parameters": {"__id__": "x"}},
        ["pipeline_parameters['__id__']", "is a name that Airflow reserves"],
    ),
    "empty value": (
        {"pipeline_parameters": {"X": ""}},
        ["pipeline_parameters['X'] = ''", "at least 1 character"],
    ),
    "list value": (
        {"pipeline_parameters": {"X": [1, 2]}},
        ["pipeline_parameters['X'] = a list of 2"],
    ),
    "parameter name with a space": (
        {"pipeline_parameters": {"My Name": "x"}},
        ["pipeline_parameters['My Name']", "letters, digits, '-', '_'"],
    ),
    "parameters as a string": (
        {"pipeline_parameters": "{'X': 1}"},
        ["pipeline_parameters = \"{'X': 1}\"", "mapping"],
    ),
    "pipeline name with a space": (
        {"pipeline_name": "my pipeline"},
        ["pipeline_name = 'my pipeline'", "hyphens"],
    ),
    "max_parallel_steps=0": (
        {"max_parallel_steps": 0},
        ["max_parallel_steps = 0", "whole number from 1"],
    ),
    "role that is not an ARN": (
        {"execution_role_arn": "SageMakerRole-for-executions"},
        [
            "execution_role_arn = 'SageMakerRole-for-executions'",
            "arn:aws:iam::<12-digit account>:role/<name>",
        ],
    ),
    "version 0": ({"pipeline_version_id": 0}, ["pipeline_version_id = 0", "from 1"]),
    "description with a line break": (
        {"execution_description": "first\nsecond"},
        ["execution_description = 'first\\nsecond'", "without line breaks"],
    ),
    "number with 5,001 digits": (
        {"pipeline_parameters": MappingProxyType({"X": 10**5000})},
        ["pipeline_parameters['X'] = a very large int", "1 to 1,024 characters"],
    ),
    "alias of digits": (
        {"pipeline_version_alias": "12"},
        ["pipeline_version_alias = '12'", "not digits only"],
    ),
    "alias beside a version": (
        {"pipeline_version_alias": "prod", "pipeline_version_id": 3},
        [
            "pipeline_version_alias = 'prod'",
            "is given together with pipeline_version_id",
        ],
    ),
    "steps as a text": (
        {"selected_steps": "Train", "source_execution": "latest"},
        ["selected_steps = 'Train'", "a list of 1 to 50 different names"],
    ),
    "no steps": (
        {"selected_steps": []},
        ["selected_steps = a list of 0", "or leave it out to run all"],
    ),
    "step with a control character": (
        {"selected_steps": ["Train", "Ev\x1bal"]},
        [
            "not valid:\n- selected_steps['1'] = 'Ev\\x1bal'",
            "without control characters",
        ],
    ),
    "a step twice": (
        {"selected_steps": ["A", "B", "A"]},
        ["selected_steps = a list of 3", "has A twice"],
    ),
    "source without steps": (
        {"source_execution": "latest"},
        ["source_execution = 'latest'", "is given without selected_steps"],
    ),
    "source that is no ARN": (
        {"selected_steps": ["A"], "source_execution": "newest"},
        [
            "source_execution = 'newest'",
            "the ARN of an execution of the same pipeline, or 'latest'",
        ],
    ),
    "source of another pipeline": (
        {"selected_steps": ["A"], "source_execution": OTHER},
        ["source_execution = 'arn:", "is an execution of another pipeline than fanout"],
    ),
    "experiment with a line break": (
        {"mlflow_experiment_name": "a\nb"},
        ["mlflow_experiment_name = 'a\\nb'", "without line breaks"],
    ),
}


def start(**arguments: Any) -> Run:
    """Run a task that starts an execution."""
    arguments = {"pipeline_name": "fanout", **arguments}
    return run_task(PolysyncStartPipelineOperator(task_id="t", **arguments))


def refused(emulator: EmulatorServer, run: Run, error: type[Exception]) -> str:
    """Return the error of a task that has failed without a call to AWS."""
    assert isinstance(run.error, error)
    assert emulator.control.calls() == []
    return str(run.error)


@pytest.mark.parametrize(
    ("arguments", "texts"), INVALID_STARTS.values(), ids=INVALID_STARTS.keys()
)
def test_invalid_start_is_refused_before_any_call(
    arguments: dict[str, Any], texts: list[str], emulator: EmulatorServer
) -> None:
    """The error names the field, the value and the cure, and AWS is not called."""
    run = start(**arguments)

    message = refused(emulator, run, ParametersError)
    for text in texts:
        assert text in message
    # One line for each argument; no other argument here is wrong in two ways.
    assert message.count("\n- ") == 1
    # The page and the shell say why.
    assert run.xcoms == {"error": message}


def test_all_invalid_arguments_are_in_one_message(emulator: EmulatorServer) -> None:
    """
    The error lists all invalid arguments, so that a DAG author can correct them at
    once.
    """
    parameters = {"A": None, "B": "", "C": "fine"}

    run = start(pipeline_name="no good", pipeline_parameters=parameters)

    message = refused(emulator, run, ParametersError)
    for name in ("pipeline_name", "['A']", "['B']"):
        assert name in message
    assert "'C'" not in message


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"progress_interval": 5}, "progress_interval = 5 is not valid: give a "),
        ({"property_files": "Eval"}, "property_files = 'Eval' is not valid: give True"),
        ({"property_files": [""]}, "property_files = .* is not valid: give True"),
        ({"property_files": ["x"] * 51}, "property_files = .* is not valid"),
        ({"validate_parameters": "yes"}, "give True or False"),
        ({"poll_interval": 0}, "poll_interval = 0"),
        ({"poll_interval": "30"}, "poll_interval = '30'"),
        ({"poll_interval": timedelta(0)}, "from 1 to 86,400, or a timedelta"),
        ({"poll_interval": True}, "poll_interval = True"),
        ({"poll_interval": float("inf")}, "poll_interval = inf"),
        ({"poll_interval": 10**5000}, "poll_interval = a very large int"),
        ({"timeout": -1}, "timeout = -1"),
        ({"timeout": float("nan")}, "timeout = nan"),
        ({"on_cancelled": "ignore"}, "one of fail, skip, retry"),
        ({"on_clear": "continue"}, "one of new, resume"),
        ({"on_completed_with_failures": "skip"}, "one of fail, succeed"),
    ],
)
def test_invalid_setting_is_refused_when_the_dag_is_parsed(
    arguments: dict[str, Any], text: str
) -> None:
    """
    An invalid argument that is not templated raises an error when Airflow parses the
    DAG.
    """
    with pytest.raises(ParametersError, match=text):
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", **arguments)


ALIEN = "https://evil.example"
AWS = '{"conn_type": "aws", "login": "AKIAIOSFODNN7EXAMPLE", "password": "s"}'
NO_CONNECTION = "polysync_conn_id = 'polysync_default'"
NOT_ALLOWED = "allowed_endpoint_hosts"


@pytest.mark.parametrize(
    ("conn", "texts"),
    [
        (None, [NO_CONNECTION, "no such connection", "Admin > Connections"]),
        (connection(sts_endpoint_url=ALIEN), ["sts_endpoint_url", NOT_ALLOWED]),
        (connection(password="a\nb"), ["secret_access_key", "line break"]),
        (connection(execution_role_arn="role"), ["execution_role_arn"]),
        (
            '{"conn_type": "polysync_sagemakr"}',
            ["type 'polysync_sagemakr'", "or 'aws'. Did you mean polysync_sagemaker?"],
        ),
        (AWS, ["No region", "region_name"]),
    ],
)
def test_unusable_connection_is_refused_before_any_call(
    conn: str | None, texts: list[str], world: World
) -> None:
    """
    The host's credentials are not used instead, and the error names the field but no
    secret.
    """
    world.patch.setenv("AWS_ACCESS_KEY_ID", "AKIAHOSTHOSTHOSTHOST")
    world.patch.setenv("AWS_SECRET_ACCESS_KEY", "host-secret")
    if conn is None:
        world.patch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    else:
        world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)

    run = start()

    message = refused(world.emulator, run, CredentialsError)
    for text in texts:
        assert text in message
    assert "emulated-secret-key" not in message


@pytest.mark.parametrize("conn_id", [None, "", 7])
def test_missing_connection_id_is_refused(
    conn_id: Any, emulator: EmulatorServer
) -> None:
    """
    With None, the amazon hook uses the host's credentials; this provider raises an
    error.
    """
    run = start(polysync_conn_id=conn_id)

    assert isinstance(run.error, CredentialsError)
    assert f"polysync_conn_id = {conn_id!r}" in str(run.error)


NO_ARN = "/execution/<id>"
OTHER_REGION = "region_name = 'us-east-1' is not the region of the execution, eu-west-1"


@pytest.mark.parametrize(
    ("arn", "text"),
    [
        ("", NO_ARN),
        (None, NO_ARN),
        ("arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout", NO_ARN),
        (OTHER.replace("us-east-1", "eu-west-1"), OTHER_REGION),
    ],
)
def test_stop_refuses_what_is_no_execution_of_its_region(
    arn: Any, text: str, emulator: EmulatorServer
) -> None:
    """An empty XCom, or a pipeline's ARN, is refused without a call to AWS."""
    task = PolysyncStopPipelineOperator(
        task_id="t", execution_arn=arn, region_name="us-east-1"
    )

    assert text in refused(emulator, run_task(task), ParametersError)

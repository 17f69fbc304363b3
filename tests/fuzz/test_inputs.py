"""
Random connections, arguments, records, XComs, trigger rows, events and definitions.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException
from hypothesis import strategies as st
from pydantic import ValidationError

from polysync_airflow.airflow_compat.signatures import signed, signing_keys
from polysync_airflow.dags import job_form
from polysync_airflow.exceptions import (
    CredentialsError,
    ParametersError,
    TriggerEventError,
)
from polysync_airflow.execution import results as property_files
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, TaskKey
from polysync_airflow.execution.outcome import outcome_message
from polysync_airflow.execution.parameters import (
    build_start_request,
    check_execution_arn,
    check_pipeline_names,
    storable_parameters,
)
from polysync_airflow.execution.pipelines import (
    DeclaredParameter,
    declared_parameters,
    parameter_problems,
)
from polysync_airflow.execution.prices import CostAndUsage
from polysync_airflow.execution.steps.descriptions import fit_outputs
from polysync_airflow.execution.texts import clean_line, clean_text, storable
from polysync_airflow.execution.trigger_arguments import (
    TriggerArguments,
    check_trigger_arguments,
)
from polysync_airflow.execution.waiter import ExecutionEvent, check_event
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.catalogue import CatalogueJob
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators.reporting import (
    execution_extra,
    pull_summary,
    push_ended,
)
from polysync_airflow.operators.results import StepReport
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.records.store import RecordStore, read_record
from tests.fakes.airflow_encoding import check_dag, check_task, delivered, pulled
from tests.strategies import fuzz, json_values, scalars, texts, values, variations
from tests.tasks import TaskInstance

PIPELINE_ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x"
ARN = f"{PIPELINE_ARN}/execution/abcdefghijkl"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/g/1"
TOKEN = "polysync-" + "0" * 32
(CONNECTION_TYPE,) = get_provider_info()["connection-types"]
FIELDS = sorted(CONNECTION_TYPE["conn-fields"])
EXTRA = {
    "auth_method": "access_key",
    "region_name": "us-east-1",
    "endpoint_url": "http://127.0.0.1:9",
}
REQUEST = {
    "pipeline_name": "x",
    "pipeline_parameters": {"A": "1"},
    "execution_display_name": "x",
    "execution_description": "d",
    "max_parallel_steps": 2,
    "execution_role_arn": "arn:aws:iam::123456789012:role/x",
    "pipeline_version_id": 1,
    "selected_steps": ["A", "B"],
    "source_execution": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x/execution/abcdefghijkl",
    "mlflow_experiment_name": "e",
    "client_request_token": TOKEN,
}
PARAMETER = {
    "Name": "A",
    "Type": "Integer",
    "DefaultValue": 1,
    "EnumValues": ["1", "2"],
}
RECORD = {
    "version": 1,
    "epoch": 0,
    "region_name": "us-east-1",
    "request": REQUEST,
    "execution_arn": ARN,
    "resumes": 1,
    "resume_token": TOKEN,
    "resumed_at": "2026-01-01T00:00:00Z",
}
RUN = {
    "execution_arn": ARN,
    "pipeline_name": "x",
    "state": "Running",
    "status": "Executing",
    "started_at": "2026-01-01T00:00:00Z",
    "seconds": 5.0,
    "parameters": {"A": "1"},
    "resumes": 0,
    "failed_steps": [{"name": "x", "reason": None}],
}
TRIGGER = {
    "execution_arn": ARN,
    "pipeline_name": "x",
    "polysync_conn_id": "c",
    "region_name": "us-east-1",
    "poll_interval": 30.0,
    "since": 1.75e9,
    "deadline": 1.76e9,
    "attempt": 0,
    "stop_on_kill": True,
}
EVENT = {
    "outcome": "ended",
    "execution_arn": ARN,
    "pipeline_name": "x",
    "status": "Failed",
    "message": "m",
    "error_code": None,
    "operation": None,
    "started_at": "2026-01-01T00:00:00Z",
    "ended_at": "2026-01-01T00:00:00Z",
    "attempt": 0,
}


def check_message(error: Exception) -> None:
    """An error has a message that is short, and that logs and databases accept."""
    message = str(error)
    assert message
    assert len(message) < 20_000
    message.encode()
    assert "\x00" not in message


@fuzz(
    variations({**EXTRA, **dict.fromkeys(FIELDS)}, scalars) | json_values,
    scalars,
    scalars,
)
def test_connections(extra: Any, login: Any, password: Any) -> None:
    """A connection gives a session, or a CredentialsError; AWS is not called."""
    fields = {
        "conn_type": "polysync_sagemaker",
        "login": login,
        "password": password,
        "extra": extra,
    }
    try:
        content = json.dumps(fields)
    except ValueError:
        return
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setenv("AIRFLOW_CONN_FUZZ", content)
        except (UnicodeEncodeError, ValueError):
            return
        hook = PolysyncSageMakerHook("fuzz")
        try:
            connection = hook.get_connection("fuzz")
        except Exception:
            # Airflow itself does not accept this connection.
            return
        assert connection
        try:
            assert hook.get_session().region_name
        except CredentialsError as error:
            check_message(error)


@fuzz(variations(REQUEST, values))
def test_start_arguments(arguments: dict[str, Any]) -> None:
    """
    The arguments of a start give a request that botocore can send, or a
    ParametersError.
    """
    known = {name: value for name, value in arguments.items() if name in REQUEST}
    try:
        request = build_start_request(**known)
    except ParametersError as error:
        check_message(error)
    else:
        json.dumps(request.to_aws()).encode()


@fuzz(
    st.dictionaries(texts, texts, max_size=5),
    st.lists(variations(PARAMETER, scalars), max_size=3),
)
def test_parameter_problems(
    sent: dict[str, str], parameters: list[dict[str, Any]]
) -> None:
    """Each problem is one short line without control characters."""
    try:
        declared = [
            DeclaredParameter.model_validate(parameter) for parameter in parameters
        ]
    except ValidationError:
        return
    for line in parameter_problems(sent, declared):
        assert "\n" not in line
        assert len(line) < 2000
        assert line == clean_text(line, 2000)


@fuzz(values)
def test_arns_and_names(value: Any) -> None:
    """Other values in place of an ARN or of names are ParametersErrors."""
    for check in (check_execution_arn, check_pipeline_names):
        try:
            check(value)
        except ParametersError as error:
            check_message(error)


@fuzz(variations(RECORD, json_values) | json_values, st.booleans())
def test_stored_records(value: Any, is_signed: bool) -> None:
    """
    A stored record is one that the task has signed, or it is ignored, whoever reads it.
    """
    ti = TaskInstance("t")
    if is_signed and isinstance(value, dict):
        value = signed(value, TaskKey.of(ti), signing_keys()[0])
    ti.store.set(RECORD_KEY, value)
    store = RecordStore.outside(ti)

    record = store.read()

    if store.unproven:
        check_message(store.unproven)
    assert record is None or (isinstance(record, ExecutionRecord) and is_signed)
    assert read_record(ti) == record


@fuzz(variations(RUN, json_values) | json_values)
def test_edited_xcoms(value: Any) -> None:
    """
    An edited XCom is the record of an execution, or ignored; at the end it is pushed
    again.
    """
    context: Any = {"ti": TaskInstance("t", xcoms={"run": value})}

    run = pull_summary(context)

    assert run is None or run.execution_arn
    push_ended(
        context,
        check_event(ExecutionEvent, EVENT),
        StepReport(
            added_up=CostAndUsage(
                billable_seconds_by_instance_type={"__id__": 1e30, "ml.m5.large": 5.0}
            )
        ),
    )


@fuzz(variations(TRIGGER, values))
def test_trigger_rows(arguments: dict[str, Any]) -> None:
    """The arguments of a stored trigger are valid, or a ParametersError."""
    try:
        delivered(check_trigger_arguments(TriggerArguments, arguments).kwargs())
    except ParametersError as error:
        check_message(error)


@fuzz(variations(EVENT, json_values) | json_values)
def test_events(event: Any) -> None:
    """An event is one of this provider's trigger, or a TriggerEventError."""
    try:
        end = check_event(ExecutionEvent, event)
    except TriggerEventError as error:
        check_message(error)
    else:
        assert end.attempt >= 0
        assert outcome_message(end)
        push_ended({"ti": TaskInstance("t")}, end)  # type: ignore[typeddict-item]


@fuzz(
    texts
    | json_values.map(json.dumps)
    | st.lists(
        variations(
            {"Name": "P", "Type": "String", "DefaultValue": "x", "EnumValues": ["x"]},
            json_values,
        ),
        max_size=3,
    ).map(lambda parameters: json.dumps({"Parameters": parameters}))
)
def test_definitions(definition: str) -> None:
    """
    A definition declares parameters that can be stored as JSON, or is a
    ParametersError.
    """
    try:
        parameters = declared_parameters(definition)
    except ParametersError as error:
        check_message(error)
    else:
        pulled([parameter.model_dump(mode="json") for parameter in parameters])


@fuzz(
    json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50)
)
def test_property_files(content: bytes) -> None:
    """
    A property file is in an XCom that Airflow stores, or left out for a reason of one
    line.
    """
    try:
        value = property_files.parse(content)
    except ValueError as error:
        check_message(error)
    else:
        outputs, _ = fit_outputs(storable({"Evaluate": {"Eval": value}}, []))
        pulled(outputs)


@fuzz(values | json_values | st.dictionaries(texts, scalars, max_size=3))
def test_values_of_a_start(value: Any) -> None:
    """Airflow can send a task with its parameters, or they are a ParametersError."""
    try:
        stored = storable_parameters("pipeline_parameters", value)
    except ParametersError as error:
        check_message(error)
    else:
        if isinstance(value, dict) and all(
            not isinstance(each, (dict, list)) for each in value.values()
        ):
            delivered(list(stored.values()))


@fuzz(
    st.none() | texts.map(clean_line), st.lists(scalars | st.just(PACKAGE), max_size=3)
)
def test_extras_of_asset_events(pipeline_name: str | None, arns: list[Any]) -> None:
    """The extra of an asset event is JSON that Airflow stores."""
    delivered(execution_extra(ARN, pipeline_name, model_package_arns=arns))


@fuzz(
    st.lists(
        variations({**PARAMETER, "EnumValues": ["1", "1e30"]}, json_values), max_size=3
    ),
    scalars,
)
def test_forms(parameters: list[dict[str, Any]], given: Any) -> None:
    """
    The DAG of an imported job can be sent and stored, or its job is broken by an error
    that is named.
    """
    dag: Any = DAG("job", schedule=None)
    with dag:
        try:
            entry = {
                "name": "x",
                "arn": PIPELINE_ARN,
                "region": "us-east-1",
                "parameters": parameters,
            }
            form: Any = job_form(
                CatalogueJob.model_validate(entry),
                {} if given is None else {"A": given},
            )
            dag.params = form.params
            task = PolysyncStartPipelineOperator(
                task_id="t", pipeline_name="x", pipeline_parameters=form.values
            )
        except (AirflowException, TypeError, ValueError):
            # As in dags/factory.py.
            return
    check_dag(dag)
    task.pipeline_parameters = form.values(
        {"params": dag.params.dump()}, task.get_template_env()
    )
    check_task(task)

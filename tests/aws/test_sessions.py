"""Sessions with AWS: what they share, how they read times, and models."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.parsers import ResponseParserFactory
from botocore.session import Session

from polysync_airflow import __version__
from polysync_airflow.aws import sessions
from polysync_airflow.aws.sessions import create_session
from polysync_airflow.emulator.server.server import EmulatorServer
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.shared_client import SharedClient

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/p/execution/abcdefghijkl"


def client() -> Any:
    return create_session(Credentials("AKIAIOSFODNN7EXAMPLE", "secret"), "eu-west-1").client("sagemaker")


def parsed(factory: ResponseParserFactory, moment: Any) -> Any:
    """Return what a parser makes of a time in AWS's answer, or the error that it raises."""
    model = client().meta.service_model
    body = f'{{"CreationTime": {moment}}}'.encode()
    shape = model.operation_model("DescribePipelineExecution").output_shape
    answer = {"body": body, "headers": {}, "status_code": 200}
    try:
        return factory.create_parser(model.metadata["protocol"]).parse(answer, shape)["CreationTime"]
    except (ValueError, RuntimeError) as error:
        return repr(error)


@pytest.fixture
def ours() -> Any:
    return sessions._session().get_component("response_parser_factory")


@pytest.mark.parametrize("moment", [0, 1700000000, 1700000000.123, -1.5, '"2026-01-01T12:00:00+02:00"'])
def test_times_are_the_moments_that_botocore_reads(ours: ResponseParserFactory, moment: Any) -> None:
    found = parsed(ours, moment)

    assert isinstance(found, datetime)
    assert found == parsed(ResponseParserFactory(), moment)


@pytest.mark.parametrize("moment", [1700000000, 1700000000.5])
def test_seconds_are_read_in_utc(ours: ResponseParserFactory, moment: float) -> None:
    assert parsed(ours, moment) == datetime.fromtimestamp(moment, UTC)
    assert parsed(ours, moment).tzinfo is UTC


@pytest.mark.parametrize("moment", ["1e300", "NaN", '"soon"'])
def test_what_is_no_time_is_refused_as_botocore_refuses_it(ours: ResponseParserFactory, moment: str) -> None:
    found = parsed(ours, moment)

    assert isinstance(found, str)
    assert found == parsed(ResponseParserFactory(), moment)


@pytest.fixture
def collected() -> Iterator[list[int]]:
    """The generations of the collections that were made meanwhile."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_reading_a_model_holds_up_nobody_by_a_collection(collected: list[int]) -> None:
    model = Loader(file_loader=sessions._Reader()).load_service_model("sagemaker", "service-2")

    assert model["operations"]
    assert 2 not in collected
    assert gc.isenabled()
    # What was read is old already: no later collection of the young looks at it.
    young = {id(found) for generation in (0, 1) for found in gc.get_objects(generation)}
    assert id(model["operations"]["DescribePipelineExecution"]) not in young


@pytest.mark.parametrize("service", ["sagemaker", "sts"])
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
def test_models_are_what_botocore_reads_in_its_order(service: str, kind: str) -> None:
    found, theirs = (
        loader.load_service_model(service, kind)
        for loader in (Loader(file_loader=sessions._Reader()), Loader())
    )

    assert json.dumps(found) == json.dumps(theirs)


def test_nothing_is_collected_while_a_model_is_read(collected: list[int]) -> None:
    path = Path(botocore.__file__).parent / "data" / "sagemaker" / "2017-07-24" / "service-2"
    reader = sessions._Reader()
    collected.clear()

    model = reader.load_file(str(path))

    assert collected == []
    assert len(model["shapes"]) > 1000


def test_an_aws_connection_reads_as_cheaply_and_from_where_it_was_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, collected: list[int]
) -> None:
    extra = {"region_name": "eu-west-1"}
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_MY_AWS", json.dumps({"conn_type": "aws", "login": "A", "extra": extra}))
    session = PolysyncSageMakerHook("my_aws").get_session()._session
    loader, factory = (session.get_component(name) for name in ("data_loader", "response_parser_factory"))

    model = loader.load_service_model("sagemaker", "service-2")

    assert type(model) is dict
    assert 2 not in collected
    assert str(tmp_path) in loader.search_paths
    assert parsed(factory, 1700000000).tzinfo is UTC


def test_models_are_read_once_in_a_process() -> None:
    one, other = client().meta.service_model, client().meta.service_model

    assert one.metadata is other.metadata
    assert one.metadata is not Session().create_client("sts", "eu-west-1").meta.service_model.metadata


def test_calls_of_waits_tell_who_makes_them(emulator: EmulatorServer) -> None:
    SharedClient("polysync_default", None).describe(ARN)

    (call,) = emulator.control.calls("DescribePipelineExecution")
    for part in ("Boto3/", "Botocore/", "Airflow/", f"polysync-airflow/{__version__}"):
        assert part in call["user_agent"]


def test_rows_of_a_listing_are_read_as_descriptions() -> None:
    row = {
        "PipelineExecutionArn": ARN,
        "PipelineExecutionStatus": "Executing",
        "StartTime": datetime.now(UTC),
    }

    found = ExecutionDescription.model_validate(row)

    assert (found.execution_arn, found.status, found.created_at) == (ARN, "Executing", row["StartTime"])
    assert (found.failure_reason, found.modified_at) == (None, None)

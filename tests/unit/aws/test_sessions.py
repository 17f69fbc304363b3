"""
Sessions: which credentials and data files they use, how they parse timestamps, and the
user agent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.parsers import ResponseParserError, ResponseParserFactory
from botocore.session import Session

from polysync_airflow import __version__
from polysync_airflow.aws.sessions import (
    client_creator,
    create_session,
    create_sts_session,
    prepare,
    reduce_models,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.shared_client import PollingHook, SharedClient
from sagemaker_emulator import EmulatorServer
from tests.conftest import use_connection

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/p/execution/abcdefghijkl"


def make_client() -> Any:
    """Return a SageMaker client of a new session."""
    return create_session(
        Credentials("AKIAIOSFODNN7EXAMPLE", "secret"), "eu-west-1"
    ).client("sagemaker")


def parse_timestamp(factory: ResponseParserFactory, value: Any) -> Any:
    """Return how a parser reads a timestamp in a response of AWS."""
    model = make_client().meta.service_model
    body = f'{{"CreationTime": {value}}}'.encode()
    shape = model.operation_model("DescribePipelineExecution").output_shape
    response = {"body": body, "headers": {}, "status_code": 200}
    return factory.create_parser(model.metadata["protocol"]).parse(response, shape)[
        "CreationTime"
    ]


@pytest.fixture
def factory() -> ResponseParserFactory:
    """The parser factory of a session of this provider."""
    session = Session()
    prepare(session)
    factory: ResponseParserFactory = session.get_component("response_parser_factory")
    return factory


@pytest.mark.parametrize(
    "value", [0, 1700000000, 1700000000.123, -1.5, '"2026-01-01T12:00:00+02:00"']
)
def test_timestamps_are_those_that_botocore_reads(
    factory: ResponseParserFactory, value: Any
) -> None:
    """A timestamp is the same moment that botocore's own parser reads."""
    parsed = parse_timestamp(factory, value)

    assert isinstance(parsed, datetime)
    assert parsed == parse_timestamp(ResponseParserFactory(), value)
    # Seconds since the epoch are not in the time zone of the host.
    assert isinstance(value, str) or parsed.tzinfo is UTC


@pytest.mark.parametrize("value", ["1e300", "NaN", '"soon"', "[]"])
def test_invalid_timestamps_count_as_missing(
    factory: ResponseParserFactory, value: str
) -> None:
    """
    One damaged time does not make a list of a hundred executions invalid. Credentials
    must have their time.
    """
    assert parse_timestamp(factory, value) is None

    with pytest.raises(ResponseParserError):
        parse_timestamp(
            create_sts_session().get_component("response_parser_factory"), value
        )


def test_session_makes_one_parser_per_protocol(factory: ResponseParserFactory) -> None:
    """
    A session uses the same parser for all responses of a protocol; other sessions have
    their own.
    """
    other_session = Session()
    prepare(other_session)
    other: ResponseParserFactory = other_session.get_component(
        "response_parser_factory"
    )

    assert factory.create_parser("json") is factory.create_parser("json")
    assert factory.create_parser("json") is not factory.create_parser("query")
    assert factory.create_parser("json") is not other.create_parser("json")


@pytest.mark.parametrize("hook_class", [PolysyncSageMakerHook, PollingHook])
def test_aws_connection_uses_the_data_path_of_its_session(
    hook_class: type[PolysyncSageMakerHook],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    A session of the amazon provider reads plain dicts and UTC timestamps, and its data
    path is kept.
    """
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    use_connection(monkeypatch, "my_aws", conn_type="aws")
    session = hook_class("my_aws").get_session()._session
    loader, factory = (
        session.get_component(name)
        for name in ("data_loader", "response_parser_factory")
    )

    model = loader.load_service_model("sagemaker", "service-2")

    assert type(model) is dict
    assert str(tmp_path) in loader.search_paths
    assert (
        loader.search_paths
        == boto3.Session()._session.get_component("data_loader").search_paths
    )
    assert parse_timestamp(factory, 1700000000).tzinfo is UTC


def test_models_are_read_once_per_process() -> None:
    """
    Two sessions share what was read from the data files; another user's sessions read
    their own.
    """
    one = make_client().meta.service_model
    other = make_client().meta.service_model

    assert one.metadata is other.metadata
    anothers = Session().create_client("sagemaker", "eu-west-1").meta.service_model
    assert one.metadata is not anothers.metadata


def test_reduced_models_are_read_once_per_process() -> None:
    """
    Sessions with the same reduction share one loader; sessions with another one do not.
    """
    loaders = []
    for operations in (
        ("DescribePipeline",),
        ("DescribePipeline",),
        ("ListPipelines",),
    ):
        session = Session()
        reduce_models(session, {"sagemaker": operations})
        loaders.append(session.get_component("data_loader"))

    assert loaders[0] is loaders[1]
    assert loaders[0] is not loaders[2]
    models = [loader.load_service_model("sagemaker", "service-2") for loader in loaders]
    assert models[0] is models[1]
    assert [list(model["operations"]) for model in models[1:]] == [
        ["DescribePipeline"],
        ["ListPipelines"],
    ]


def test_sts_sessions_have_two_operations() -> None:
    """A client of an STS session can only assume roles."""
    client = create_sts_session().create_client("sts", "eu-west-1")

    assert set(client.meta.method_to_api_mapping) == {
        "assume_role",
        "assume_role_with_web_identity",
    }


def test_settings_of_the_fetcher_take_precedence() -> None:
    """
    The function merges the settings that a fetcher of botocore passes into the given
    ones.
    """
    create = client_creator(
        Config(connect_timeout=7, read_timeout=8),
        region_name="eu-west-1",
        endpoint_url="http://127.0.0.1:1",
    )

    plain = create("sts")
    merged = create("sts", config=Config(read_timeout=9))

    assert (plain.meta.config.connect_timeout, plain.meta.config.read_timeout) == (7, 8)
    assert merged.meta.config.connect_timeout == 7
    assert merged.meta.config.read_timeout == 9
    assert merged.meta.endpoint_url == "http://127.0.0.1:1"
    assert merged.meta.region_name == "eu-west-1"


def test_polls_have_the_user_agent_of_the_provider(emulator: EmulatorServer) -> None:
    """
    The user agent of a poll names boto3, botocore, Airflow and this provider with its
    version.
    """
    SharedClient("polysync_default", None).describe(ARN)

    (call,) = emulator.control.calls("DescribePipelineExecution")
    for part in ("Boto3/", "Botocore/", "Airflow/", f"polysync-airflow/{__version__}"):
        assert part in call["user_agent"]

"""Reduced data files of botocore: the JSON scanner, and models and endpoints compared with the full ones."""

from __future__ import annotations

import gc
import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.aws.service_models import (
    JsonScanner,
    PlainDictLoader,
    ReducedModelLoader,
    reduce_endpoints,
    reduce_service_model,
)
from polysync_airflow.aws.sessions import reduce_models
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.triggers.shared_client import PollingHook

DATA = Path(botocore.__file__).parent / "data"
OPERATIONS: tuple[str, ...] = PollingHook.client_operations
POLLING = {"sagemaker": OPERATIONS}
REGIONS = ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "ap-southeast-7"]

white_space = st.text(" \t\r\n", max_size=3)
texts = st.text() | st.sampled_from(['"', "\\", "\\u00e9", "}{][,:", "\u2028", "\x00", "😀"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=20,
)


@st.composite
def json_texts(draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """JSON with random white space around each token, and with or without escapes for non-ASCII characters."""
    ensure_ascii = draw(st.booleans())

    def write(value: Any) -> str:
        if isinstance(value, dict):
            members = (f"{write(name)}:{write(member)}" for name, member in value.items())
            text = f"{{{draw(white_space)}{','.join(members)}}}"
        elif isinstance(value, list):
            text = f"[{draw(white_space)}{','.join(map(write, value))}]"
        else:
            text = json.dumps(value, ensure_ascii=ensure_ascii)
        return f"{draw(white_space)}{text}{draw(white_space)}"

    return write(draw(values))


def read_all(scanner: JsonScanner, expected: Any) -> Any:
    """Read a value member by member; ``expected`` shows where objects and arrays are."""
    if isinstance(expected, dict):
        return {name: read_all(scanner, expected[name]) for name in scanner.members()}
    if isinstance(expected, list):
        return [read_all(scanner, item) for item, _ in zip(expected, scanner.items(), strict=True)]
    return scanner.value()


@given(json_texts())
def test_scanner_reads_what_json_loads_reads(text: str) -> None:
    """Any JSON, read as a whole or member by member, has the same value and the same order of members."""
    expected = json.loads(text)

    assert JsonScanner(text).value() == expected
    assert json.dumps(read_all(JsonScanner(text), expected)) == json.dumps(expected)


@given(json_texts(), st.sets(st.integers(0, 3)))
def test_skipped_parts_can_be_read_later(text: str, skipped: set[int]) -> None:
    """Skipping a member or an item does not change the others, and ``value_at`` reads it afterwards."""
    expected = json.loads(text)
    if not isinstance(expected, (dict, list)):
        return
    scanner = JsonScanner(text)
    names = list(expected) if isinstance(expected, dict) else range(len(expected))
    read: dict[Any, Any] = {}
    positions: dict[Any, int] = {}

    for number, _ in enumerate(scanner.members() if isinstance(expected, dict) else scanner.items()):
        if number in skipped:
            positions[names[number]] = scanner.skip()
        else:
            read[names[number]] = scanner.value()
    read |= {name: scanner.value_at(position) for name, position in positions.items()}

    assert len(read) == len(expected)
    assert all(read[name] == expected[name] for name in names)


@pytest.mark.parametrize("text", ["{}", "[]", " { } ", "\n[\t]\r\n", '{"a": {}, "b": [], "c": [[], {}]}'])
def test_scanner_reads_empty_objects_and_arrays(text: str) -> None:
    """Empty objects and arrays, also nested and with white space inside, are empty."""
    expected = json.loads(text)

    assert read_all(JsonScanner(text), expected) == expected


@pytest.mark.parametrize(("text", "method"), [("[1]", "members"), ("{}", "items"), (" 1", "members")])
def test_scanner_refuses_another_type(text: str, method: str) -> None:
    """Reading an array as an object, or the reverse, is an error with the position."""
    with pytest.raises(ValueError, match=r"position \d of the JSON text: expected [{\[]"):
        list(getattr(JsonScanner(text), method)())


def data_file(path: str) -> str:
    """Return the text of one of botocore's data files."""
    plain = DATA / f"{path}.json"
    return (
        plain.read_text()
        if plain.exists()
        else gzip.decompress(plain.with_suffix(".json.gz").read_bytes()).decode()
    )


@pytest.fixture(scope="module")
def sagemaker_path() -> str:
    """The path of SageMaker's model below botocore's data folder."""
    (version,) = (DATA / "sagemaker").iterdir()
    return f"sagemaker/{version.name}/service-2"


@pytest.fixture(scope="module")
def full(sagemaker_path: str) -> dict[str, Any]:
    """SageMaker's full model."""
    model: dict[str, Any] = json.loads(data_file(sagemaker_path))
    return model


@pytest.fixture(scope="module")
def reduced(sagemaker_path: str) -> dict[str, Any]:
    """SageMaker's model with the operations of a poller."""
    return reduce_service_model(data_file(sagemaker_path), OPERATIONS)


def referenced_shapes(part: Any) -> set[str]:
    """Return the names of all shapes that a part of a model refers to."""
    return set(re.findall(r'"shape": "(\w+)"', json.dumps(part)))


def test_reduced_model_has_the_same_operations_and_shapes(
    full: dict[str, Any], reduced: dict[str, Any]
) -> None:
    """The poller's operations and all shapes that they use are those of the full model, and there are no others."""
    assert reduced["operations"] == {name: full["operations"][name] for name in OPERATIONS}
    needed: set[str] = set()
    new = referenced_shapes(reduced["operations"])
    while new:
        needed |= new
        new = referenced_shapes([full["shapes"][name] for name in new]) - needed
    assert reduced["shapes"] == {name: full["shapes"][name] for name in needed}
    assert referenced_shapes(reduced) <= reduced["shapes"].keys()
    assert "ResourceNotFound" in needed
    assert 10 * len(needed) < len(full["shapes"])


def test_reduced_model_has_everything_else(full: dict[str, Any], reduced: dict[str, Any]) -> None:
    """Apart from operations and shapes, the model is complete and in the same order."""
    left = ("operations", "shapes")
    assert [(name, part) for name, part in reduced.items() if name not in left] == [
        (name, part) for name, part in full.items() if name not in left
    ]
    assert reduced.keys() == full.keys()


def test_unknown_operations_are_left_out(sagemaker_path: str, reduced: dict[str, Any]) -> None:
    """An operation that the installed botocore does not have is no error."""
    text = data_file(sagemaker_path)

    assert reduce_service_model(text, [*OPERATIONS, "FlyToTheMoon"]) == reduced
    nothing = reduce_service_model(text, ["FlyToTheMoon"])
    assert nothing["operations"] == nothing["shapes"] == {}


def test_members_named_shape_are_not_references() -> None:
    """A structure may have a member whose name is ``shape``; shapes may refer to themselves."""
    structure = {"type": "structure", "members": {"shape": {"shape": "Tree"}, "list": {"shape": "Trees"}}}
    model = {
        "shapes": {
            "Unused": {"type": "string"},
            "Tree": structure,
            "Trees": {"type": "list", "member": {"shape": "Tree"}},
            "Error": {"type": "structure", "members": {}, "exception": True},
        },
        "operations": {
            "Plant": {"name": "Plant", "input": {"shape": "Trees"}, "errors": [{"shape": "Error"}]},
            "Fell": {"name": "Fell", "input": {"shape": "Unused"}},
        },
        "version": "2.0",
    }

    found = reduce_service_model(json.dumps(model), ["Plant"])

    assert found["shapes"].keys() == {"Tree", "Trees", "Error"}
    assert found["operations"].keys() == {"Plant"}
    assert found["version"] == "2.0"


@pytest.mark.parametrize("services", [("api.sagemaker",), ("sts", "api.sagemaker"), ()])
def test_reduced_endpoints_have_all_partitions(services: tuple[str, ...]) -> None:
    """The list of endpoints keeps its partitions and regions, and of the services only those that are named."""
    text = data_file("endpoints")
    expected = json.loads(text)
    for partition in expected["partitions"]:
        partition["services"] = {
            name: service for name, service in partition["services"].items() if name in services
        }

    found = reduce_endpoints(text, services)

    assert found == expected
    assert found["partitions"][0]["regions"]["eu-central-1"]
    assert {partition["partition"] for partition in found["partitions"]} >= {"aws", "aws-cn", "aws-us-gov"}
    assert all(service in found["partitions"][0]["services"] for service in services)


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations of the garbage collections that run during the test."""
    generations: list[int] = []

    def record(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    gc.callbacks.append(record)
    yield generations
    gc.callbacks.remove(record)


def test_reading_triggers_no_full_garbage_collection(sagemaker_path: str, collections: list[int]) -> None:
    """A reduced model has so few objects that reading it triggers no collection of older objects."""
    loader = ReducedModelLoader(POLLING)
    gc.collect()
    collections.clear()

    model, endpoints = (loader.load_file(str(DATA / path)) for path in (sagemaker_path, "endpoints"))
    generations = list(collections)

    assert model["operations"].keys() == set(OPERATIONS)
    assert endpoints["partitions"]
    assert 2 not in generations
    # A collection of the youngest objects may be due to another thread.
    assert len(generations) <= 1


def new_objects(create: Callable[[], Any]) -> int:
    """Return how many objects for the garbage collector a function creates and keeps."""
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        kept = create()
        after = gc.get_count()[0]
    finally:
        gc.enable()
    del kept
    return after - before


def test_reduced_model_has_few_objects(sagemaker_path: str) -> None:
    """A reduced model, and reduced endpoints, have 20 times fewer objects for the garbage collector."""
    reduced_loader, plain_loader = ReducedModelLoader(POLLING), PlainDictLoader()
    for path in (sagemaker_path, "endpoints"):
        few, many = (
            new_objects(lambda loader=loader, path=path: loader.load_file(str(DATA / path)))  # type: ignore[misc]
            for loader in (reduced_loader, plain_loader)
        )
        assert few < many / 20


@pytest.mark.parametrize("service", ["sagemaker", "sts"])
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
def test_plain_models_are_those_of_botocore(service: str, kind: str) -> None:
    """Without a reduction, a model has the content and order that botocore's own loader reads."""
    own, botocores = (
        loader.load_service_model(service, kind)
        for loader in (Loader(file_loader=PlainDictLoader()), Loader())
    )

    assert type(own["metadata"] if kind == "service-2" else own) is dict
    assert json.dumps(own) == json.dumps(botocores)


@pytest.mark.parametrize("loader", [PlainDictLoader(), ReducedModelLoader({"x": ["Y"]})])
def test_missing_files_have_no_content(loader: PlainDictLoader, tmp_path: Path) -> None:
    """A loader returns None for a missing file, as botocore's does, so that other folders are searched."""
    for name in ("x/2020-01-01/service-2", "endpoints", "partitions"):
        assert loader.load_file(str(tmp_path / name)) is None


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_plain_and_compressed_files_are_read(suffix: str, tmp_path: Path) -> None:
    """A user's own data file may be compressed or not; it is UTF-8 in any locale."""
    content = {"operations": {"Y": {"name": "Y", "documentation": "ä"}, "Z": {}}, "shapes": {}}
    folder = tmp_path / "x" / "2020-01-01"
    folder.mkdir(parents=True)
    text = json.dumps(content, ensure_ascii=False).encode()
    (folder / f"service-2{suffix}").write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    path = str(folder / "service-2")

    assert PlainDictLoader().load_file(path) == content
    assert ReducedModelLoader({"w": ["Y"]}).load_file(path) == content
    reduced = ReducedModelLoader({"x": ["Y"]}).load_file(path)
    assert reduced["operations"] == {"Y": {"name": "Y", "documentation": ""}}


def without_documentation(part: Any) -> Any:
    """Return a part of a data file without the texts for people, which no client uses."""
    if isinstance(part, dict):
        return {
            name: without_documentation(member) for name, member in part.items() if name != "documentation"
        }
    return [without_documentation(item) for item in part] if isinstance(part, list) else part


def test_only_documentation_is_not_ascii(
    sagemaker_path: str, full: dict[str, Any], reduced: dict[str, Any]
) -> None:
    """The loader drops characters other than ASCII, which occur only in texts that no client uses."""
    loader = ReducedModelLoader(POLLING)

    assert json.dumps(without_documentation(full), ensure_ascii=False).isascii()
    assert data_file("endpoints").isascii()
    loaded = loader.load_file(str(DATA / sagemaker_path))
    assert without_documentation(loaded) == without_documentation(reduced)
    endpoints = loader.load_file(str(DATA / "endpoints"))
    assert endpoints == reduce_endpoints(data_file("endpoints"), POLLING)


def make_client(
    operations: dict[str, tuple[str, ...]] | None, region: str, service: str = "sagemaker", **settings: Any
) -> Any:
    """Return a client of a session with these operations by service; with all operations for None."""
    session = Session()
    if operations:
        reduce_models(session, operations)
    return session.create_client(
        service,
        region,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="emulated-secret-key",
        **settings,
    )


class Recorder:
    """
    Calls operations of a client; records the requests that it sends.

    :param client: the client.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.requests: list[tuple[Any, ...]] = []
        client.meta.events.register("before-send", self._record)

    def _record(self, request: Any, **_: Any) -> None:
        headers = {name: request.headers.get(name) for name in ("X-Amz-Target", "Content-Type", "User-Agent")}
        signature = re.search(
            rb"Credential=\w+/\d+/(\S+), SignedHeaders=(\S+),", request.headers["Authorization"]
        )
        assert signature
        self.requests.append((request.method, request.url, request.body, headers, signature.groups()))

    def call(self, operation: str, **request: Any) -> Any:
        """Call an operation; return its response, or the type and content of its error."""
        try:
            response = getattr(self.client, operation)(**request)
        except ClientError as error:
            return type(error).__name__, error.response["Error"]
        del response["ResponseMetadata"]
        return response


def test_reduced_client_sends_and_parses_like_a_full_client(emulator: EmulatorServer) -> None:
    """The poller's operations have the same requests, responses, errors and pages with both models."""
    full, reduced = (
        Recorder(make_client(operations, "us-east-1", endpoint_url=emulator.endpoint_url))
        for operations in (None, POLLING)
    )
    start = full.client.start_pipeline_execution
    arns = [start(PipelineName="fanout")["PipelineExecutionArn"] for _ in range(3)]
    full.requests.clear()
    emulator.control.advance(60)
    earlier = datetime.fromtimestamp(0, UTC)
    missing = arns[0][:-12] + "aaaaaaaaaaaa"
    stop_token = "polysync-stop-0123456789abcdef0123"
    calls: list[tuple[str, dict[str, Any]]] = [
        ("describe_pipeline_execution", {"PipelineExecutionArn": arns[0]}),
        ("describe_pipeline_execution", {"PipelineExecutionArn": missing}),
        (
            "list_pipeline_executions",
            {"PipelineName": "fanout", "CreatedAfter": earlier, "SortBy": "CreationTime", "MaxResults": 2},
        ),
        ("list_pipeline_executions", {"PipelineName": "no-such-pipeline"}),
        ("list_pipeline_execution_steps", {"PipelineExecutionArn": arns[0], "SortOrder": "Ascending"}),
        ("stop_pipeline_execution", {"PipelineExecutionArn": arns[1], "ClientRequestToken": stop_token}),
        ("stop_pipeline_execution", {"PipelineExecutionArn": missing, "ClientRequestToken": stop_token}),
    ]

    for operation, request in calls:
        assert reduced.call(operation, **request) == full.call(operation, **request)
    pages = [
        list(
            each.client.get_paginator("list_pipeline_executions").paginate(
                PipelineName="fanout", MaxResults=1
            )
        )
        for each in (full, reduced)
    ]

    assert [len(each) for each in pages] == [3, 3]
    assert reduced.requests == full.requests
    assert len(reduced.requests) == len(calls) + 3
    assert reduced.call("describe_pipeline_execution", PipelineExecutionArn=missing)[0] == "ResourceNotFound"
    started = reduced.call("describe_pipeline_execution", PipelineExecutionArn=arns[0])["CreationTime"]
    assert isinstance(started, datetime)


def test_reduced_client_has_only_these_operations() -> None:
    """A reduced client has a method for each of its operations, and no other methods of SageMaker."""
    client = make_client(POLLING, "us-east-1")

    assert set(client.meta.method_to_api_mapping.values()) == set(OPERATIONS)
    assert not hasattr(client, "start_pipeline_execution")


FIRST_REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "sagemaker": ("describe_pipeline_execution", {"PipelineExecutionArn": "arn"}),
    "sts": ("assume_role", {"RoleArn": "arn:aws:iam::123456789012:role/R", "RoleSessionName": "test"}),
}


def first_request(
    operations: dict[str, tuple[str, ...]] | None, service: str, region: str, **settings: Any
) -> Any:
    """Return the request of a client, without sending it; or the error of an unusable setting."""

    def interrupt(**_: Any) -> None:
        raise InterruptedError

    operation, request = FIRST_REQUESTS[service]
    try:
        recorder = Recorder(make_client(operations, region, service, **settings))
        recorder.client.meta.events.register("before-send", interrupt)
        with pytest.raises(InterruptedError):
            recorder.call(operation, **request)
    except BotoCoreError as error:
        return repr(error)
    return recorder.client.meta.partition, recorder.requests


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(
    "config",
    [Config(), Config(use_fips_endpoint=True), Config(use_dualstack_endpoint=True)],
    ids=["plain", "fips", "dualstack"],
)
@pytest.mark.parametrize("service", ["sagemaker", "sts"])
def test_reduced_client_calls_the_endpoint_of_a_full_client(
    service: str, region: str, config: Config
) -> None:
    """In every partition, the reduced list of endpoints leads to the same endpoint and signature."""
    operations = {"sts": ("AssumeRole",), "sagemaker": OPERATIONS}[service]

    reduced = first_request({service: operations}, service, region, config=config)

    assert reduced == first_request(None, service, region, config=config)

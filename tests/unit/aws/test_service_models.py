"""Reduced data files of botocore: models and endpoints compared with the full ones."""

from __future__ import annotations

import gc
import gzip
import json
import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import botocore
import pytest
from botocore.loaders import Loader

from polysync_airflow.aws.sessions import (
    PlainDictLoader,
    ReducedModelLoader,
    reduce_endpoints,
    reduce_service_model,
)
from polysync_airflow.triggers.shared_client import PollingHook

DATA = Path(botocore.__file__).parent / "data"
OPERATIONS: tuple[str, ...] = PollingHook.client_operations
POLLING = {"sagemaker": OPERATIONS}


def data_file(path: str) -> str:
    """Return the text of one of botocore's data files."""
    plain = DATA / f"{path}.json"
    return (
        plain.read_text()
        if plain.exists()
        else gzip.decompress(plain.with_suffix(".json.gz").read_bytes()).decode()
    )


def without_documentation(part: Any) -> Any:
    """
    Return a part of a data file without the texts for people, which no client uses.
    """
    if isinstance(part, dict):
        return {
            name: without_documentation(member)
            for name, member in part.items()
            if not (name == "documentation" and isinstance(member, str))
        }
    return (
        [without_documentation(item) for item in part]
        if isinstance(part, list)
        else part
    )


@pytest.fixture(scope="module")
def sagemaker_path() -> str:
    """The path of SageMaker's model below botocore's data folder."""
    (version,) = (DATA / "sagemaker").iterdir()
    return f"sagemaker/{version.name}/service-2"


@pytest.fixture(scope="module")
def full(sagemaker_path: str) -> dict[str, Any]:
    """SageMaker's full model, without documentation."""
    model: dict[str, Any] = without_documentation(json.loads(data_file(sagemaker_path)))
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
    """
    The poller's operations and all shapes that they use are those of the full model,
    and there are no others. Everything else is there, in the same order.
    """
    operations = {name: full["operations"][name] for name in OPERATIONS}
    needed: set[str] = set()
    new = referenced_shapes(operations)
    while new:
        needed |= new
        new = referenced_shapes([full["shapes"][name] for name in new]) - needed
    shapes = {name: full["shapes"][name] for name in needed}
    assert reduced == {**full, "operations": operations, "shapes": shapes}
    assert [*reduced] == [*full]
    assert "ResourceNotFound" in needed
    assert 10 * len(needed) < len(full["shapes"])


def test_unknown_operations_are_left_out(
    sagemaker_path: str, reduced: dict[str, Any]
) -> None:
    """An operation that the installed botocore does not have is no error."""
    text = data_file(sagemaker_path)

    assert reduce_service_model(text, [*OPERATIONS, "FlyToTheMoon"]) == reduced
    nothing = reduce_service_model(text, ["FlyToTheMoon"])
    assert nothing["operations"] == nothing["shapes"] == {}


def test_members_named_shape_are_not_references() -> None:
    """
    A structure may have members with the names of what the reduction looks at; shapes
    may refer to themselves.
    """
    names = ("shape", "type", "name", "documentation")
    members = {
        **{name: {"shape": "Tree"} for name in names},
        "list": {"shape": "Trees"},
    }
    structure = {"type": "structure", "members": members}
    model = {
        "shapes": {
            "Unused": {"type": "string"},
            "Tree": structure,
            "Trees": {"type": "list", "member": {"shape": "Tree"}},
            "Error": {"type": "structure", "members": {}, "exception": True},
        },
        "operations": {
            "Plant": {
                "name": "Plant",
                "input": {"shape": "Trees"},
                "errors": [{"shape": "Error"}],
            },
            "Fell": {"name": "Fell", "input": {"shape": "Unused"}},
        },
        "version": "2.0",
    }

    found = reduce_service_model(json.dumps(model), ["Plant"])

    assert found["shapes"].keys() == {"Tree", "Trees", "Error"}
    assert found["shapes"]["Tree"] == structure
    assert found["operations"].keys() == {"Plant"}
    assert found["version"] == "2.0"


def test_reduced_endpoints_lack_nothing_but_services() -> None:
    """The list of endpoints keeps its partitions with their regions."""
    text = data_file("endpoints")
    expected = json.loads(text)
    for partition in expected["partitions"]:
        partition["services"] = {"sts": partition["services"]["sts"]}

    assert reduce_endpoints(text, ("sts",)) == expected
    assert reduce_endpoints(text, ())["partitions"][0]["services"] == {}


def new_objects(create: Callable[[], Any]) -> int:
    """
    Return how many objects for the garbage collector a function creates and keeps.
    """
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
    """
    A reduced model, and reduced endpoints, have 20 times fewer objects for the garbage
    collector.
    """
    reduced_loader = ReducedModelLoader(POLLING)
    plain_loader = PlainDictLoader()
    for path in (sagemaker_path, "endpoints"):
        few, many = (
            new_objects(partial(loader.load_file, str(DATA / path)))
            for loader in (reduced_loader, plain_loader)
        )
        assert few < many / 20


@pytest.mark.parametrize("service", ["sagemaker", "sts"])
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
def test_plain_models_are_those_of_botocore(service: str, kind: str) -> None:
    """
    Without a reduction, a model has the content and order that botocore's own loader
    reads.
    """
    own, botocores = (
        loader.load_service_model(service, kind)
        for loader in (Loader(file_loader=PlainDictLoader()), Loader())
    )

    assert type(own["metadata"] if kind == "service-2" else own) is dict
    assert json.dumps(own) == json.dumps(botocores)


@pytest.mark.parametrize(
    "loader", [PlainDictLoader(), ReducedModelLoader({"x": ["Y"]})]
)
def test_missing_files_have_no_content(loader: PlainDictLoader, tmp_path: Path) -> None:
    """
    A loader returns None for a missing file, as botocore's does, so that other folders
    are searched.
    """
    for name in ("x/2020-01-01/service-2", "endpoints", "partitions"):
        assert loader.load_file(str(tmp_path / name)) is None


@pytest.mark.parametrize(
    ("suffix", "written"), [(".json", bytes), (".json.gz", gzip.compress)]
)
def test_plain_and_compressed_files_are_read(
    suffix: str, written: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """A user's own data file may be compressed or not; it is UTF-8 in any locale."""
    content = {"operations": {"Y": {"name": "Y", "documentation": "ä"}}, "shapes": {}}
    folder = tmp_path / "x" / "2020-01-01"
    folder.mkdir(parents=True)
    text = json.dumps(content, ensure_ascii=False).encode()
    (folder / f"service-2{suffix}").write_bytes(written(text))
    path = str(folder / "service-2")

    assert PlainDictLoader().load_file(path) == content
    assert ReducedModelLoader({"w": ["Y"]}).load_file(path) == content
    reduced = ReducedModelLoader({"x": ["Y"]}).load_file(path)
    assert reduced["operations"] == {"Y": {"name": "Y"}}


def test_only_documentation_is_not_ascii(
    sagemaker_path: str, full: dict[str, Any], reduced: dict[str, Any]
) -> None:
    """
    The loader drops characters other than ASCII, which occur only in texts that no
    client uses.
    """
    loader = ReducedModelLoader(POLLING)

    assert json.dumps(full, ensure_ascii=False).isascii()
    assert data_file("endpoints").isascii()
    assert loader.load_file(str(DATA / sagemaker_path)) == reduced
    endpoints = loader.load_file(str(DATA / "endpoints"))
    assert endpoints == reduce_endpoints(data_file("endpoints"), POLLING)


def test_model_is_read_with_little_more_than_its_text(sagemaker_path: str) -> None:
    """What is used beyond, for a moment, stays with the process."""
    size = len(data_file(sagemaker_path))
    tracemalloc.start()
    try:
        ReducedModelLoader(POLLING).load_file(str(DATA / sagemaker_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2.5 * size

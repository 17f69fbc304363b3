"""
Reads botocore's data files, and can leave out the operations and endpoints that a client does not need.

botocore builds its whole model of SageMaker, and the endpoints of all services, from some 44,000 Python
objects (18 MiB). They live as long as the client. In a triggerer they make Python's garbage collector go
through all objects of the process more often, which stops every thread for 0.1 s. A poller needs four of the
430 operations.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from botocore.loaders import JSONFileLoader

_SUFFIXES: Final[dict[str, Callable[[bytes], bytes]]] = {".json": bytes, ".json.gz": gzip.decompress}


class PlainDictLoader(JSONFileLoader):
    """Reads data files into plain dicts, which take half the memory of botocore's ``OrderedDict``."""

    def load_file(self, file_path: str) -> Any:
        """Return the content of a data file, whose path is without the suffix; None if there is none."""
        content = _read(file_path)
        return None if content is None else json.loads(content)


class ReducedModelLoader(PlainDictLoader):
    """
    Reads only a part of the data files.

    :param operations: the operations that are needed, by service name. The models of other services are read
        in full, but the list of endpoints has only the services that are named here.
    """

    def __init__(self, operations: Mapping[str, Collection[str]]) -> None:
        self._operations = operations

    def load_file(self, file_path: str) -> Any:
        """Return what is needed of a data file, whose path is without the suffix; None if there is none."""
        path = Path(file_path)
        # <service>/<version of the API>/service-2
        service = path.parent.parent.name
        is_model = path.name == "service-2" and service in self._operations
        if not is_model and path.name != "endpoints":
            return super().load_file(file_path)
        # Only documentation has other characters than ASCII. Python would need twice the memory for the text,
        # and several times that (26 MiB with Python 3.13) to decode it.
        text = (_read(file_path) or b"").decode("ascii", "ignore")
        if not text:
            return None
        if is_model:
            return reduce_service_model(text, self._operations[service])
        return reduce_endpoints(text, self._operations.keys())


def reduce_service_model(text: str, operations: Collection[str]) -> dict[str, Any]:
    """
    Return a service model with some of its operations, and the shapes that these use, undocumented.

    :param text: the model, in JSON.
    :param operations: names of operations; names that the model does not have are left out.
    """
    # An operation has a name, and a shape has a type. The value is a dict if it is a member with such a name.
    model = _decode(text, lambda part: isinstance(part.get("name", part.get("type")), str))
    packed = model["operations"]
    kept = {name: json.loads(packed[name]) for name in operations if name in packed}
    shapes: dict[str, Any] = {}
    pending = set(_shapes_in(kept))
    while pending:
        name = pending.pop()
        shapes[name] = json.loads(model["shapes"][name])
        pending |= set(_shapes_in(shapes[name])) - shapes.keys()
    return {**model, "operations": kept, "shapes": shapes}


def reduce_endpoints(text: str, services: Collection[str]) -> dict[str, Any]:
    """Return botocore's list of endpoints, given in JSON, with some of its services."""
    content = _decode(text, lambda part: "endpoints" in part)
    for partition in content["partitions"]:
        partition["services"] = {
            name: json.loads(service) for name, service in partition["services"].items() if name in services
        }
    return content


def _decode(text: str, is_packed: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """
    Decode JSON without documentation, and turn some objects in it back into JSON once they are complete.

    All objects at once, most of which are not needed, would raise the memory of the process for good.
    """

    def pack(part: dict[str, Any]) -> Any:
        if isinstance(part.get("documentation"), str):
            del part["documentation"]
        return json.dumps(part) if is_packed(part) else part

    content: dict[str, Any] = json.loads(text, object_hook=pack)
    return content


def _shapes_in(value: Any) -> Iterator[str]:
    """Yield the names of the shapes that a part of a model refers to."""
    if isinstance(value, dict):
        if isinstance(value.get("shape"), str):
            yield value["shape"]
        for member in value.values():
            yield from _shapes_in(member)
    elif isinstance(value, list):
        for item in value:
            yield from _shapes_in(item)


def _read(file_path: str) -> bytes | None:
    for suffix, decompress in _SUFFIXES.items():
        path = Path(f"{file_path}{suffix}")
        if path.is_file():
            return decompress(path.read_bytes())
    return None

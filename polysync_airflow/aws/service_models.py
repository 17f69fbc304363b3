"""
Reads botocore's data files, and can leave out the operations and endpoints that a client does not need.

botocore builds its whole model of SageMaker, and the endpoints of all services, from some 100,000 Python
objects. They live as long as the client. In a triggerer they make Python's garbage collector go through all
objects of the process more often, which stops every thread for 0.1 s. A poller needs four of the 430
operations.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from botocore.loaders import JSONFileLoader

_WHITE_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SUFFIXES: Final[dict[str, Callable[[bytes], bytes]]] = {".json": bytes, ".json.gz": gzip.decompress}


class PlainDictLoader(JSONFileLoader):
    """Reads data files into plain dicts, which take half the memory of botocore's ``OrderedDict``."""

    def load_file(self, file_path: str) -> Any:
        """
        Return the content of a data file; None if there is none.

        :param file_path: its path without the suffix.
        """
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
        """
        Return the content of a data file; None if there is none.

        :param file_path: its path without the suffix.
        """
        path = Path(file_path)
        # <service>/<version of the API>/service-2
        service = path.parent.parent.name
        reduce: Callable[[str], dict[str, Any]]
        if path.name == "service-2" and service in self._operations:
            reduce = partial(reduce_service_model, operations=self._operations[service])
        elif path.name == "endpoints":
            reduce = partial(reduce_endpoints, services=self._operations.keys())
        else:
            return super().load_file(file_path)
        content = _read(file_path)
        # Only documentation has other characters than ASCII. Python would need twice the memory for the text,
        # and several times that (26 MiB with Python 3.13) to decode it.
        return None if content is None else reduce(content.decode("ascii", "ignore"))


def reduce_service_model(text: str, operations: Collection[str]) -> dict[str, Any]:
    """
    Return a service model with some of its operations, and the shapes that these use.

    :param text: the model, in JSON.
    :param operations: names of operations; names that the model does not have are left out.
    """
    scanner = JsonScanner(text)
    model: dict[str, Any] = {}
    positions: dict[str, dict[str, int]] = {}
    for name in scanner.members():
        if name in ("operations", "shapes"):
            positions[name] = {member: scanner.skip() for member in scanner.members()}
        else:
            model[name] = scanner.value()
    kept = [name for name in operations if name in positions["operations"]]
    model["operations"] = {name: scanner.value_at(positions["operations"][name]) for name in kept}
    shapes: dict[str, Any] = {}
    pending = set(_shapes_in(model["operations"]))
    while pending:
        name = pending.pop()
        shapes[name] = scanner.value_at(positions["shapes"][name])
        pending |= set(_shapes_in(shapes[name])) - shapes.keys()
    model["shapes"] = shapes
    return model


def reduce_endpoints(text: str, services: Collection[str]) -> dict[str, Any]:
    """
    Return botocore's list of endpoints with some of its services.

    :param text: the list, in JSON.
    :param services: names of services.
    """
    scanner = JsonScanner(text)
    return {
        name: [_reduce_partition(scanner, services) for _ in scanner.items()]
        if name == "partitions"
        else scanner.value()
        for name in scanner.members()
    }


def _reduce_partition(scanner: JsonScanner, services: Collection[str]) -> dict[str, Any]:
    partition: dict[str, Any] = {}
    for name in scanner.members():
        if name != "services":
            partition[name] = scanner.value()
            continue
        partition[name] = {}
        for service in scanner.members():
            if service in services:
                partition[name][service] = scanner.value()
            else:
                scanner.skip()
    return partition


class JsonScanner:
    """
    Reads JSON member by member, so that parts can be skipped. The json module has no such reader.

    A skipped part is decoded as well, which takes C code few milliseconds for all of SageMaker's model. But
    each of its members is released before the next one is decoded, and so none counts for the garbage
    collector.

    :param text: the JSON text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._decode = json.JSONDecoder().raw_decode

    def members(self) -> Iterator[str]:
        """Yield the names in an object. After each name, its value must be read or skipped."""
        for _ in self._elements("{", "}"):
            name = self.value()
            self._accept(":")
            yield name

    def items(self) -> Iterator[None]:
        """Yield once for each item of an array. Each time, the item must be read or skipped."""
        yield from self._elements("[", "]")

    def value(self) -> Any:
        """Read a value."""
        value, self._at = self._decode(self._text, self._next())
        return value

    def skip(self) -> int:
        """Skip a value; return its position, for ``value_at``."""
        start = self._next()
        _, self._at = self._decode(self._text, start)
        return start

    def value_at(self, position: int) -> Any:
        """
        Return the value at a position, without moving there.

        :param position: what ``skip`` returned.
        """
        return self._decode(self._text, position)[0]

    def _elements(self, opening: str, closing: str) -> Iterator[None]:
        if not self._accept(opening):
            raise ValueError(f"position {self._at} of the JSON text: expected {opening}")
        while not self._accept(closing):
            yield
            self._accept(",")

    def _accept(self, character: str) -> bool:
        accepted = self._text[self._next()] == character
        self._at += accepted
        return accepted

    def _next(self) -> int:
        white_space = _WHITE_SPACE.match(self._text, self._at)
        self._at = white_space.end() if white_space else self._at
        return self._at


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

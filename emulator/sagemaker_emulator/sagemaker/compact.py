"""
The compact form of a graph of objects: compressed bytes, and references to the objects
that it shares with others.
"""

from __future__ import annotations

import io
import pickle
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Compact(NamedTuple):
    """
    A graph of objects.

    :param content: the objects that belong to the graph alone.
    :param shared: those that it shares with others.
    :param example: the bytes of a similar graph, before compression.
    """

    content: bytes
    shared: tuple[Any, ...]
    example: bytes

    def decompressed(self) -> bytes:
        """Return the bytes of the content."""
        return zlib.decompressobj(zdict=self.example).decompress(self.content)


def compacted(value: Any, is_shared: Callable[[Any], bool], example: bytes) -> Compact:
    """
    Return the compact form of a value.

    :param value: the value, whose types pickle supports.
    :param is_shared: returns whether an object that it leads to belongs to others, too.
        Such an object stays as it is.
    :param example: the bytes of a similar graph; empty if there is none. What is the
        same there takes no space.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, is_shared)
    pickler.dump(value)
    compressor = zlib.compressobj(zdict=example)
    content = compressor.compress(buffer.getvalue()) + compressor.flush()
    return Compact(content, tuple(pickler.shared), example)


def expanded(compact: Compact) -> Any:
    """Return a new copy of a value that was compacted in this process."""
    return _Unpickler(compact).load()


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, is_shared: Callable[[Any], bool]) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self.shared: list[Any] = []
        self._is_shared = is_shared
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: Any) -> int | None:
        """Return the number of a shared object; None for every other one."""
        if not self._is_shared(value):
            return None
        number = self._numbers.setdefault(id(value), len(self.shared))
        if number == len(self.shared):
            self.shared.append(value)
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, compact: Compact) -> None:
        super().__init__(io.BytesIO(compact.decompressed()))
        self._shared = compact.shared

    def persistent_load(self, number: int) -> Any:
        """Return a shared object."""
        return self._shared[number]

"""
Finds out which functions of the package a run enters, and which of them see a value.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import BaseOperator

import polysync_airflow
from tests.pages import page

PACKAGE: Final = Path(polysync_airflow.__file__).parent
# The other side of the wire, the fixtures of tests, and what a value only passes: the
# exceptions and the texts.
PASSED: Final = (
    "emulator/",
    "testing/",
    "airflow_compat/",
    "exceptions.py",
    "execution/texts.py",
    "execution/clock.py",
)
MAX_DEPTH: Final = 8

Handles = Callable[[Any], bool]


class Function(NamedTuple):
    """A function, by its file below the package and its name."""

    file: str
    name: str


@dataclass
class Trace:
    """
    What a run has done, in all threads.

    :param entered: the functions, whenever one was entered.
    :param handled: those that see the value, in the order in which they first do.
    """

    entered: list[Function] = field(default_factory=list)
    handled: dict[Function, None] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The files that see the value, in the order in which they first do."""
        return list(dict.fromkeys(function.file for function in self.handled))


@contextmanager
def traced(handles: Handles, *passed: str) -> Iterator[Trace]:
    """
    Trace the functions of the package.

    :param handles: whether a function sees the value, by its arguments when it is
        entered, and by its variables and its result at its end.
    :param passed: files and folders that are not traced.
    """
    trace = Trace()

    def observe(frame: FrameType, event: str, returned: Any) -> None:
        if event not in ("call", "return"):
            return
        function = function_of(frame)
        if function is None or function.file.startswith((*PASSED, *passed)):
            return
        if event == "call":
            trace.entered.append(function)
        if function in trace.handled:
            return
        values = [*frame.f_locals.values()]
        if event == "return":
            values.append(returned)
        if handles(values):
            trace.handled[function] = None

    before = (sys.getprofile(), threading.getprofile())
    threading.setprofile(observe)
    sys.setprofile(observe)
    try:
        yield trace
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])


def function_of(frame: FrameType) -> Function | None:
    """
    Return the function that a frame runs; None if it is not one of the package, or has
    no name.
    """
    code = frame.f_code
    if not code.co_filename.startswith(f"{PACKAGE}/") or code.co_name.startswith("<"):
        return None
    return Function(str(Path(code.co_filename).relative_to(PACKAGE)), code.co_name)


def stack() -> list[Function]:
    """Return the functions of the package that run in this thread, the first first."""
    frame: FrameType | None = sys._getframe()
    functions: list[Function] = []
    while frame:
        function = function_of(frame)
        if function:
            functions.insert(0, function)
        frame = frame.f_back
    return functions


def contains(value: Any, wanted: str, depth: int = MAX_DEPTH) -> bool:
    """
    Return whether a value is a text, or holds it: in a container, a model or an object.
    """
    if isinstance(value, str):
        return value == wanted
    if depth == 0 or value is None or isinstance(value, int | float | type):
        return False
    if isinstance(value, Mapping):
        return any(contains(each, wanted, depth - 1) for each in list(value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(contains(each, wanted, depth - 1) for each in list(value))
    # The whole task is in the context of each call, whatever the call is about.
    if not type(value).__module__.startswith("polysync_airflow") or isinstance(
        value, BaseOperator
    ):
        return False
    names = {*getattr(value, "__dict__", ())}
    for kind in type(value).__mro__:
        names.update(getattr(kind, "__slots__", ()))
    names.discard("__weakref__")
    return any(
        contains(getattr(value, name, None), wanted, depth - 1) for name in names
    )


def documented_walk(heading: str) -> list[Function]:
    """
    Return the functions of a walk on the page Architecture: those of the file with
    which each point of its list begins.
    """
    section = page("explanation/architecture.md").section(heading)
    points = re.findall(r"^\d+\. `([\w/]+\.py)`: (.*)$", section, re.MULTILINE)
    return [
        Function(file, name)
        for file, text in points
        for name in re.findall(r"`(\w+)`", text)
    ]


def assert_walked(walk: Sequence[Function], trace: Trace) -> None:
    """Assert that a run has entered the functions of a walk in their order."""
    entered = iter(trace.entered)
    for function in walk:
        assert function in entered, (
            f"docs/explanation/architecture.md: {function.file}: {function.name} is not"
            " entered at this place of the walk"
        )


def assert_documented(heading: str, files: list[str]) -> None:
    """
    Assert that a walk on the page Architecture has exactly these files; otherwise the
    message has the right text.
    """
    section = page("explanation/architecture.md").section(heading)
    text = ", ".join(f"`{file}`" for file in files)
    assert re.findall(r"`([\w/]+\.py)`", section) == files, (
        f"docs/explanation/architecture.md must have under {heading!r}: {text}."
    )

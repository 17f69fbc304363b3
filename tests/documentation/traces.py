"""
Finds out which files of the package handle a value, in the order in which they first
do.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

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


@contextmanager
def traced(handles: Handles, *passed: str) -> Iterator[list[str]]:
    """
    Collect the files of the package whose functions handle a value, in all threads.

    :param handles: decides by the arguments of a function, and by what it returns.
    :param passed: files and folders that are not on this path.
    """
    found: list[str] = []

    def trace(frame: FrameType, event: str, returned: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(f"{PACKAGE}/") or event not in (
            "call",
            "return",
        ):
            return
        file = str(Path(code.co_filename).relative_to(PACKAGE))
        if (
            file in found
            or file.startswith((*PASSED, *passed))
            or code.co_name.startswith("<")
        ):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if handles(
            [frame.f_locals.get(name) for name in names]
            if event == "call"
            else returned
        ):
            found.append(file)

    before = sys.getprofile(), threading.getprofile()
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])


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
    names = {*getattr(value, "__dict__", ()), *getattr(value, "__slots__", ())} - {
        "__weakref__"
    }
    return any(
        contains(getattr(value, name, None), wanted, depth - 1) for name in names
    )


def documented(title: str) -> list[str]:
    """
    Return the files of a path on the page Architecture: those in the first sentence
    after its title.
    """
    section = page("explanation/architecture.md").section(
        "Three paths through the code"
    )
    (line,) = (line for line in section.splitlines() if f"*{title}*" in line)
    return re.findall(r"`([\w/]+\.py)`", line.split(". ")[1])


def assert_documented(title: str, found: list[str]) -> None:
    """
    Assert that a path on the page Architecture has exactly these files; otherwise the
    message has the right text.
    """
    text = ", ".join(f"`{file}`" for file in found)
    assert documented(title) == found, (
        f"docs/explanation/architecture.md must have: *{title}*: {text}."
    )

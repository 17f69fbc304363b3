"""The animated picture of the README, which ``make recording`` makes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tests.chaos.recording import EMULATOR, KILL, PICTURE, WORKER, Line, picture

SVG = "{http://www.w3.org/2000/svg}"


def texts_of(svg: str) -> list[str]:
    """Return the lines of a picture: time, source and text."""
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return [
        " ".join(each for each in group.itertext()).split("\n", 1)[1]
        for group in groups
    ]


def test_picture_has_the_lines_with_the_times_that_have_passed() -> None:
    """Texts are no markup, and long ones have several rows."""
    lines = [
        Line(1000.0, "try 1", "Started: <execution>"),
        Line(1007.5, WORKER, f"{KILL} of the worker process"),
        Line(1060.0, EMULATOR, "starts: 1, " * 10),
    ]

    svg = picture(lines)

    rows = [" ".join(text.split()) for text in texts_of(svg)]
    assert rows[:2] == [
        "0.0 s try 1 Started: <execution>",
        "7.5 s worker kill -9 of the worker process",
    ]
    assert rows[2].startswith("60.0 s emulator starts: 1,")
    assert svg.count("<tspan") == len(lines) + 1


def test_recording_has_one_execution() -> None:
    """The second try goes on with the execution that the first one has started."""
    rows = "\n".join(texts_of(PICTURE.read_text()))

    (execution,) = re.findall(r"Started: execution (\w+)", rows)
    assert re.search(rf"Reattached [^;]+; [^:]+:\s+execution {execution}", rows)
    assert "starts: 1, stops: 0, executions: Succeeded; the task: success" in rows

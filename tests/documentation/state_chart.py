"""
Draws the table of transitions as a picture for the documentation:

    python -m tests.documentation.state_chart

writes it to ``docs/images/life-cycle.svg``, with which the test compares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import hypot
from typing import Final, NamedTuple

from polysync_airflow.execution.lifecycle.instructions import (
    ENDS_THE_START,
    Command,
    Event,
    Refused,
)
from polysync_airflow.execution.lifecycle.machine import TRANSITIONS
from tests.pages import DOCS

PICTURE: Final = DOCS / "images" / "life-cycle.svg"
FIRST: Final = (
    Command.PREPARE,
    Command.LOOK_UP,
    Command.DESCRIBE,
    Command.START,
)
# The column and the row of each box.
PLACES: Final[dict[Command, tuple[float, float]]] = {
    Command.LOOK_UP: (0.0, 0.0),
    Command.RESEND_START: (0.85, 0.7),
    Command.DESCRIBE: (2.0, 0.0),
    Command.PREPARE: (0.0, 2.4),
    Command.LOOK_UP_STARTED: (1.15, 2.0),
    Command.START: (0.0, 4.0),
    Command.DESCRIBE_STARTED: (1.0, 3.2),
    Command.STOP: (3.45, 3.75),
    Command.ADD_UP: (2.1, 1.2),
    Command.RESEND_RESUME: (3.45, 0.0),
    Command.RESUME: (3.05, 1.4),
    Command.DESCRIBE_RESUMED: (4.15, 0.9),
    Command.DESCRIBE_REFUSED: (3.95, 2.4),
    Command.WAIT_FOR_END: (3.9, 4.7),
    Command.WATCH: (1.6, 4.7),
    Command.WAIT_FOR_CAPACITY: (2.75, 4.7),
}
WIDTH: Final = 970
HEIGHT: Final = 660
COLUMN: Final = 190
ROW: Final = 105
BOX: Final = (152, 34)
BEND: Final = 16
STYLE: Final = """
text { font: 13px sans-serif; fill: #222; text-anchor: middle }
.paper { fill: #fff }
.box { fill: #e8eef7; stroke: #4a6fa5 }
.first { stroke-width: 3 }
.end { fill: #e3f1e3; stroke: #3c7a3c }
.fail { fill: #f8e4e4; stroke: #a33 }
path { fill: none; stroke: #4a6fa5; stroke-width: 1.4; marker-end: url(#arrow) }
.refused { stroke: #a33; stroke-dasharray: 5 4 }
""".strip()


class Arrow(NamedTuple):
    """One command that may follow on another one."""

    command: Command
    event: type[Event]
    following: Command


def arrows() -> Iterator[Arrow]:
    """Yield what the table has, without what ends in FAIL, as each command may."""
    for command, transitions in TRANSITIONS.items():
        for event, transition in transitions.items():
            for following in Command:
                if following in transition.follows and following is not Command.FAIL:
                    yield Arrow(command, event, following)


def state_chart() -> str:
    """Return the picture, as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<title>What may follow on each command of a try</title>",
        f"<style>{STYLE}</style>",
        '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"'
        ' style="fill:#555;stroke:none"/></marker>',
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        *map(_path, arrows()),
        *map(_box, PLACES),
        *_end_of_all(),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _center(command: Command) -> tuple[float, float]:
    column, row = PLACES[command]
    return 90 + column * COLUMN, 48 + row * ROW


def _box(command: Command) -> str:
    kind = "box"
    if command in ENDS_THE_START:
        kind = "box end"
    if command in FIRST:
        kind = "box first"
    return _labelled(_center(command), kind, command.name)


def _labelled(center: tuple[float, float], kind: str, text: str) -> str:
    x, y = center
    width, height = BOX
    return (
        f'<rect class="{kind}" x="{x - width / 2:.0f}" y="{y - height / 2:.0f}"'
        f' width="{width}" height="{height}" rx="6"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}">{text}</text>'
    )


def _end_of_all() -> Iterator[str]:
    """Draw once what may follow on each command."""
    x = 90
    y = HEIGHT - 30
    yield _labelled((x + 2 * COLUMN, y), "fail", Command.FAIL.name)
    yield f'<text x="{x + 60}" y="{y + 5}">an error, or a kill, on any command</text>'
    yield f'<path class="refused" d="M{x + 175} {y}L{x + 2 * COLUMN - 76} {y}"/>'
    yield (
        f'<text x="{x + 3.4 * COLUMN:.0f}" y="{y - 5}">thick: how a try begins;'
        " green: the wait begins;</text>"
    )
    yield (
        f'<text x="{x + 3.4 * COLUMN:.0f}" y="{y + 15}">dashed: AWS has refused the'
        " command</text>"
    )


def _path(arrow: Arrow) -> str:
    kind = "answered"
    if arrow.event is Refused:
        kind = "refused"
    tip = f"<title>{arrow.event.__name__}</title>"
    return f'<path class="{kind}" d="{_line(arrow)}">{tip}</path>'


def _line(arrow: Arrow) -> str:
    x, y = _center(arrow.command)
    if arrow.command is arrow.following:
        top = y - BOX[1] / 2
        return f"M{x + 40:.0f} {top:.0f}c-4 -24 32 -24 28 0"
    to_x, to_y = _center(arrow.following)
    length = hypot(to_x - x, to_y - y)
    # Those of refusals bend to the other side, as two may have the same ends.
    bend = BEND
    if arrow.event is Refused:
        bend = -BEND
    control = (
        (x + to_x) / 2 - (to_y - y) / length * bend,
        (y + to_y) / 2 + (to_x - x) / length * bend,
    )
    start = _edge((x, y), control)
    end = _edge((to_x, to_y), control)
    points = [f"{point[0]:.0f} {point[1]:.0f}" for point in (start, control, end)]
    return "M{}Q{} {}".format(*points)


def _edge(
    center: tuple[float, float], toward: tuple[float, float]
) -> tuple[float, float]:
    """Return where the line from the center of a box to a point leaves the box."""
    across = toward[0] - center[0]
    down = toward[1] - center[1]
    scales = []
    if across:
        scales.append(BOX[0] / 2 / abs(across))
    if down:
        scales.append(BOX[1] / 2 / abs(down))
    scale = min(scales)
    return center[0] + across * scale, center[1] + down * scale


if __name__ == "__main__":
    PICTURE.write_text(state_chart())

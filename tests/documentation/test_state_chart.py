"""The picture of the life cycle has the table of transitions."""

from __future__ import annotations

from polysync_airflow.execution.lifecycle.instructions import Command
from polysync_airflow.execution.lifecycle.machine import TRANSITIONS
from tests.documentation.state_chart import PICTURE, PLACES, arrows, state_chart


def test_picture_in_the_documentation_is_drawn_from_the_table() -> None:
    """``python -m tests.documentation.state_chart`` draws it again."""
    assert PICTURE.read_text() == state_chart()


def test_picture_has_every_transition() -> None:
    """Each command has a place, and only FAIL, which may follow on each, is drawn once."""
    drawn = {(arrow.command, arrow.event, arrow.following) for arrow in arrows()}

    assert {*PLACES, Command.FAIL} == set(Command)
    assert drawn == {
        (command, event, following)
        for command, transitions in TRANSITIONS.items()
        for event, transition in transitions.items()
        for following in transition.follows - {Command.FAIL}
    }
    picture = state_chart()
    assert all(f">{command.name}</text>" in picture for command in Command)
    assert picture.count('<path class="') == len(drawn) + 1

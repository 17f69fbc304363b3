"""
Prints the table of transitions as a Mermaid diagram, for a page of the documentation:

    python -m tests.documentation.state_chart
"""

from __future__ import annotations

from collections.abc import Iterator

from polysync_airflow.execution.lifecycle.instructions import Command
from polysync_airflow.execution.lifecycle.machine import TRANSITIONS

FIRST = (Command.PREPARE, Command.LOOK_UP, Command.DESCRIBE)


def state_chart() -> str:
    """
    Return the diagram. What may follow on each command is left out: a refusal or a kill
    fails the try.
    """
    return "\n".join(("stateDiagram-v2", *_arrows()))


def _arrows() -> Iterator[str]:
    for command in FIRST:
        yield f"    [*] --> {command.name}"
    for command, transitions in TRANSITIONS.items():
        for event, transition in transitions.items():
            for following in Command:
                if following in transition.follows:
                    yield f"    {command.name} --> {following.name}: {event.__name__}"
        if not transitions:
            yield f"    {command.name} --> [*]"


if __name__ == "__main__":
    print(state_chart())
